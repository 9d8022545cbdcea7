// Random sequences of calls with random, often bad, arguments on a few objects that they share. No
// sequence may crash or hang the process, and every error must be a typed one.
//
//   NODE_KVM_FUZZ_SEED=n        another seed than the one of every run
//   NODE_KVM_FUZZ_SECONDS=n     for longer than usual

import fc from 'fast-check'
import { afterAll, expect, test } from 'vitest'
import { GuestMemory, Kvm, Vcpu } from '../../src/index.js'
import { attempt, callSome, isOfLibrary, readProperties } from '../helpers/fuzz-api.js'
import { type Code, createGuest, HALT, OUT_LOOP, SPIN } from '../helpers/guest.js'

const seed = Number(process.env.NODE_KVM_FUZZ_SEED ?? 20261123)
const seconds = Number(process.env.NODE_KVM_FUZZ_SECONDS ?? 15)

/** No size among them is one that could be had and would hurt. */
const numbers = [
  0,
  1,
  2,
  3,
  4,
  7,
  8,
  16,
  31,
  32,
  100,
  255,
  256,
  0x174,
  0x1000,
  0x2000,
  0x8000,
  0x10_0000,
  0xffff,
  0x1_0001,
  0xfee0_0000,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 40 + 8,
  2 ** 52,
  2 ** 53,
  -0,
  -1,
  0.5,
  Number.NaN,
  Number.POSITIVE_INFINITY,
]
const others: unknown[] = [
  undefined,
  null,
  true,
  '',
  '/dev/null',
  '4096',
  'u32',
  0n,
  1n,
  0x8000n,
  2n ** 64n - 1n,
  2n ** 64n,
  -1n,
  [],
  {},
  [1, 2, 3],
  [undefined],
  new Uint8Array(0),
  new Uint8Array(8),
  new Uint8Array(4096),
  new ArrayBuffer(16),
  new Map(),
  Symbol.iterator,
  () => {},
  () => 5,
  () => {
    throw Object.assign(new Error('of the test'), { code: 'ERR_TEST' })
  },
  async () => {},
  new Date(0),
  { index: 0x174, data: 0n },
  [{ index: 0x174, data: 1n }],
  { gpa: 0, size: 4096 },
  AbortSignal.abort(),
]
const regionFields = [
  'slot',
  'flags',
  'guestPhysAddr',
  'memorySize',
  'memory',
  'memoryAddress',
] as const
const codes: Code[] = [SPIN, HALT, OUT_LOOP, [0xa1, 0x00, 0x00, 0xf4], [0x0f, 0x0b], []]

/** A name for a value that can be made, or for one that was seen in this sequence. */
const argument = fc.oneof(
  { weight: 3, arbitrary: fc.record({ number: fc.constantFrom(...numbers) }) },
  { weight: 2, arbitrary: fc.record({ other: fc.nat(others.length - 1) }) },
  { weight: 4, arbitrary: fc.record({ seen: fc.nat(1000) }) },
  {
    weight: 1,
    arbitrary: fc.record({ region: fc.constantFrom(...regionFields), seen: fc.nat(1000) }),
  },
)
type Argument = typeof argument extends fc.Arbitrary<infer T> ? T : never

const step = fc.oneof(
  {
    weight: 20,
    arbitrary: fc.record({
      kind: fc.constant('call' as const),
      target: fc.nat(1000),
      method: fc.nat(1000),
      args: fc.array(argument, { maxLength: 4 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('run' as const),
      target: fc.nat(1000),
      ms: fc.double({ min: 0.001, max: 2, noNaN: true }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('start' as const),
      target: fc.nat(1000),
      answer: fc.nat(4),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('read' as const), target: fc.nat(1000) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('turn' as const), ms: fc.nat(2) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('guest' as const),
      code: fc.nat(100),
      irqchip: fc.boolean(),
    }),
  },
)
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

/** Objects of the library that calls are made on, and everything that can be an argument. */
class Playground {
  readonly objects: object[] = []
  readonly seen: unknown[] = []

  add(value: unknown): void {
    if (value === undefined || value === null) return
    this.seen.push(value)
    if (isOfLibrary(value) && !this.objects.includes(value)) this.objects.push(value)
  }

  addGuest(code: Code, irqchip: boolean): void {
    const { kvm, vm, vcpu, memory } = createGuest(code, { irqchip })
    for (const part of [vcpu, memory, vm, kvm, memory.view(0, 64)]) this.add(part)
    for (const state of [vcpu.getRegs(), vcpu.getSregs(), vcpu.getMsrs([0x174])]) this.add(state)
  }

  make(argument: Argument): unknown {
    if ('number' in argument) return argument.number
    if ('other' in argument) return others[argument.other]
    const value = this.seen[argument.seen % this.seen.length]
    if (!('region' in argument)) return value
    const memory = this.seen.find((value) => value instanceof GuestMemory)
    const region = { slot: 1, guestPhysAddr: 0x10_0000, memorySize: 0x1000, memoryAddress: 0 }
    return { ...region, memory, [argument.region]: value }
  }

  someVcpu(choice: number): Vcpu | undefined {
    const vcpus = this.objects.filter((object) => object instanceof Vcpu)
    return vcpus[choice % vcpus.length]
  }

  async take(step: Step): Promise<void> {
    switch (step.kind) {
      case 'call': {
        const target = this.objects[step.target % this.objects.length]!
        const args = step.args.map((argument) => this.make(argument))
        this.add(callSome(target, step.method, args))
        break
      }
      case 'run': {
        const vcpu = this.someVcpu(step.target)
        this.add(attempt('run', () => vcpu?.run({ timeoutMs: step.ms })))
        break
      }
      case 'start': {
        const vcpu = this.someVcpu(step.target)
        attempt('start', () => vcpu?.start(this.#handler(step.answer)))
        break
      }
      case 'read':
        readProperties(this.objects[step.target % this.objects.length]!)
        break
      case 'guest':
        if (this.objects.length < 40) this.addGuest(codes[step.code % codes.length]!, step.irqchip)
        break
      case 'turn':
        await new Promise((resolve) => setTimeout(resolve, step.ms))
    }
  }

  /** Answers at once, later, never; by an error; or uses the vCPU itself. */
  #handler(answer: number): Parameters<Vcpu['start']>[0] {
    return (exit, vcpu) => {
      this.add(exit)
      readProperties(exit)
      switch (answer) {
        case 1:
          return new Promise((resolve) => setImmediate(resolve))
        case 2:
          return new Promise(() => {})
        case 3:
          throw Object.assign(new Error('of the test'), { code: 'ERR_TEST' })
        case 4:
          attempt('close', () => vcpu.close())
      }
    }
  }

  async end(): Promise<void> {
    const vcpus = this.objects.filter((object) => object instanceof Vcpu)
    for (const vcpu of vcpus) attempt('requestStop', () => vcpu.requestStop())
    await Promise.allSettled(vcpus.map((vcpu) => vcpu.join()))
    for (const object of this.objects) {
      const { close } = object as { close?: () => void }
      if (typeof close === 'function') attempt('close', () => close.call(object))
    }
  }
}

// A rejection that nobody waits for must be a typed one, too.
const untyped: unknown[] = []
const onRejection = (reason: unknown) => {
  if (typeof (reason as { code?: unknown } | undefined)?.code !== 'string') untyped.push(reason)
}
process.on('unhandledRejection', onRejection)
afterAll(() => {
  process.off('unhandledRejection', onRejection)
})

test(
  'random calls end in results or typed errors',
  async () => {
    let sequences = 0
    const property = fc.asyncProperty(
      fc.array(step, { minLength: 5, maxLength: 60, size: 'max' }),
      async (steps) => {
        sequences++
        const playground = new Playground()
        playground.addGuest(OUT_LOOP, false)
        try {
          for (const each of steps) await playground.take(each)
        } finally {
          await playground.end()
        }
        expect(untyped).toEqual([])
      },
    )
    await fc.assert(property, {
      seed,
      numRuns: 1_000_000,
      interruptAfterTimeLimit: seconds * 1000,
      markInterruptAsFailure: false,
      endOnFailure: !process.env.NODE_KVM_FUZZ_SHRINK,
    })
    expect(sequences).toBeGreaterThan(0)
    expect(Kvm.isAvailable()).toBe(true)
  },
  (seconds + 60) * 1000,
)
