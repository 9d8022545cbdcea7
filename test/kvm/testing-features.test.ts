// The features of the processor with their instructions, the engine, the matrix of places.
import { describe, expect, test } from 'vitest'
import {
  assemble,
  engineOf,
  FEATURE_INSTRUCTIONS,
  matrix,
  missing,
  probeFeature,
} from '../../src/testing/index.js'

const find = (name: string) => FEATURE_INSTRUCTIONS.find(({ feature }) => feature === name)!

test('every feature has one instruction that can be assembled', () => {
  const names = FEATURE_INSTRUCTIONS.map(({ feature }) => feature)
  expect(new Set(names).size).toBe(names.length)
  for (const { code } of FEATURE_INSTRUCTIONS) {
    expect(assemble(code, { constants: { data: 0xf000n } }).bytes.length).toBeGreaterThan(0)
  }
})

test('a feature that every 64-bit processor has works in ring 3', () => {
  expect(probeFeature(find('sse2'), 3)).toEqual({
    feature: 'sse2',
    ring: 3,
    supported: true,
    shown: 'works',
    hidden: 'works',
  })
})

test('an instruction that no processor has is found out', () => {
  const nothing = { feature: 'sse2', code: 'ud2' } as const
  expect(probeFeature(nothing, 3)).toMatchObject({ shown: '#UD', hidden: '#UD' })
})

test('registers that KVM refuses are told', () => {
  const wrong = { feature: 'sse2', code: 'nop', guest: { cr0: { pe: false } } } as const
  expect(probeFeature(wrong, 0)).toMatchObject({ shown: 'refused', hidden: 'refused' })
})

// On hardware KVM refuses what it supports only where the processor has the bit at all.
test('what KVM supports works where the processor runs it', () => {
  for (const instruction of FEATURE_INSTRUCTIONS) {
    if (instruction.privileged || missing(`cpu:${instruction.feature}`)) continue
    if (missing('engine:native')) continue
    expect(probeFeature(instruction, 3)).toMatchObject({ shown: 'works' })
  }
})

describe('the engine', () => {
  test('is told for each place, and the same in requirements', () => {
    expect(['hardware', 'native', 'interpreted']).toContain(engineOf('long', 3))
    const isInterpreted = engineOf('long', 0) === 'interpreted'
    expect(missing('engine:interpreted') === undefined).toBe(isInterpreted)
    const isNative = engineOf('long', 3) !== 'interpreted'
    expect(missing('engine:native') === undefined).toBe(isNative)
  })

  test('is hardware exactly where KVM uses VMX or SVM', () => {
    const isHardware = engineOf('long', 3) === 'hardware'
    expect(isHardware).toBe(missing('engine:hardware') === undefined)
  })
})

test('a matrix has every combination, but no rings of real mode', () => {
  expect(matrix({ mode: ['real', 'long'], ring: [0, 3], on: [true, false] })).toEqual([
    { mode: 'real', ring: 0, on: true },
    { mode: 'real', ring: 0, on: false },
    { mode: 'long', ring: 0, on: true },
    { mode: 'long', ring: 0, on: false },
    { mode: 'long', ring: 3, on: true },
    { mode: 'long', ring: 3, on: false },
  ])
  expect(matrix({ a: [1, 2] })).toEqual([{ a: 1 }, { a: 2 }])
})
