// The generated words against the facts in reference/, which were collected independently.

import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import * as uapi from '../../src/uapi/index.js'
import { layouts, requests, type StructName } from '../../src/uapi/index.js'

function reference(name: string) {
  return JSON.parse(readFileSync(new URL(`../../reference/${name}.json`, import.meta.url), 'utf8'))
}

const constants = uapi as unknown as Record<string, unknown>

interface Ioctl {
  name: string
  request: string
  struct: string | null
  size: number
  scopes: string[]
  capability: string | null
  arg: string
  pointers: string[]
  fds: string[]
  flexArray?: { elementSize: number; countField: string; maxCount: number | string | null }
}

describe('requests', () => {
  const facts: Ioctl[] = reference('kvm-ioctls')

  it('are those of the reference, no more and no fewer', () => {
    expect(Object.keys(requests).sort()).toEqual(facts.map(({ name }) => name).sort())
  })

  it.each(facts)('$name', (fact) => {
    const info = requests[fact.name]!
    expect(info.request).toBe(Number(fact.request))
    expect(constants[fact.name]).toBe(Number(fact.request))
    expect((info.request >>> 16) & 0x3fff).toBe(fact.size)
    expect([...info.scopes].sort()).toEqual([...fact.scopes].sort())
    expect(info.capability ?? null).toBe(fact.capability)
    expect(info.argument).toBe(fact.arg.split(/[ :]/)[0])
    expect(uapi.requestName(info.request)).toBe(fact.name)
    if (fact.struct?.startsWith('kvm_')) {
      expect(info.struct).toBe(fact.struct)
      expect(layouts[fact.struct as StructName].size).toBe(fact.size)
    }
  })

  it.each(facts.filter(({ flexArray }) => flexArray))('$name: variable length', (fact) => {
    const { elementSize, countField, maxCount } = fact.flexArray!
    const { flex, struct } = requests[fact.name]!
    // The XSAVE area has no count: KVM_CAP_XSAVE2 is its size.
    if (countField.startsWith('(implicit')) return expect(flex).toBeUndefined()
    const count = layouts[struct as StructName].fields[countField.split(' ')[0]!]!
    expect(flex).toMatchObject({ elementSize, countOffset: count.offset, countSize: count.size })
    expect(flex!.max).toBe(typeof maxCount === 'number' ? maxCount : undefined)
  })

  it('that carry addresses or fds are marked, except KVM_ENABLE_CAP', () => {
    const carrying = facts.filter(({ pointers, fds }) => pointers.length + fds.length > 0)
    const marked = Object.values(requests).filter(({ pointers }) => pointers)
    const expected = carrying
      .map(({ name }) => name)
      // The argument itself is its only pointer.
      .filter((name) => name !== 'KVM_REINJECT_CONTROL' && name !== 'KVM_ENABLE_CAP')
    expect(marked.map(({ name }) => name).sort()).toEqual(
      [...expected, 'KVM_MEMORY_ENCRYPT_UNREG_REGION'].sort(),
    )
  })
})

describe('native/requests.inc', () => {
  const text = readFileSync(new URL('../../native/requests.inc', import.meta.url), 'utf8')
  const rows = [...text.matchAll(/^KVM_REQUEST\((.*)\)$/gm)].map((match) => match[1]!.split(', '))

  it('has a row for every request, with the same numbers', () => {
    const scopes = {
      system: 'kScopeSystem',
      vm: 'kScopeVm',
      vcpu: 'kScopeVcpu',
      device: 'kScopeDevice',
    }
    const args = { none: 'ArgKind::kNone', value: 'ArgKind::kValue', pointer: 'ArgKind::kPointer' }
    const expected = Object.values(requests).map((info) => [
      info.name,
      `0x${info.request.toString(16).padStart(8, '0')}`,
      String(info.size),
      info.scopes.map((scope) => scopes[scope]).join(' | '),
      args[info.argument],
      ...[info.flex?.countOffset, info.flex?.countSize, info.flex?.elementSize, info.flex?.max].map(
        (value) => String(value ?? 0),
      ),
    ])
    expect(rows.map((row) => row.slice(0, 9)).sort()).toEqual(expected.sort())
  })

  it('marks what a generic ioctl must not do by itself', () => {
    const flags = Object.fromEntries(rows.map((row) => [row[0], row[9]]))
    for (const info of Object.values(requests)) {
      expect(flags[info.name]!.includes('kHasPointers')).toBe(info.pointers)
    }
    const with_ = (flag: string) =>
      rows.filter((row) => row[9]!.includes(flag)).map((row) => row[0])
    expect(with_('kReturnsFd').sort()).toEqual([
      'KVM_CREATE_GUEST_MEMFD',
      'KVM_CREATE_VCPU',
      'KVM_CREATE_VM',
      'KVM_GET_STATS_FD',
    ])
    expect(with_('kSizeXsave2').sort()).toEqual(['KVM_GET_XSAVE2', 'KVM_SET_XSAVE'])
    expect(with_('kSizeField').sort()).toEqual(['KVM_GET_NESTED_STATE', 'KVM_SET_NESTED_STATE'])
  })

  it('names the capabilities whose argument is an address or an fd', () => {
    const found = [...text.matchAll(/^KVM_POINTER_CAPABILITY\((\w+), (\d+)\)$/gm)]
    const facts: { name: string; number: number; args: unknown }[] = reference('kvm-capabilities')
    expect(found.length).toBeGreaterThan(0)
    for (const [, name, number] of found) {
      expect(facts.find((fact) => fact.name === name)!.number).toBe(Number(number))
    }
  })
})

describe('capabilities', () => {
  const facts: { name: string; number: number }[] = reference('kvm-capabilities')

  it('are those of the reference, with their numbers', () => {
    const expected = Object.fromEntries(facts.map(({ name, number }) => [name, number]))
    expect(uapi.capabilityNumbers).toEqual(expected)
  })

  it.each(facts)('$name', ({ name, number }) => {
    expect(constants[name]).toBe(number)
    expect(uapi.capabilityName(number)).toBe(name)
  })

  it('newer than the headers have no name', () => {
    expect(uapi.capabilityName(1_000_000)).toBeUndefined()
    expect(uapi.exitName(1_000_000)).toBeUndefined()
    expect(uapi.requestName(0xae99)).toBeUndefined()
  })
})

interface ExitField {
  name: string
  offset: number
  size: number
  fields?: ExitField[]
}

interface Exit {
  name: string
  number: number
  x86: boolean
  member: string | null
  memberSize: number
  fields: ExitField[] | null
  overlay?: { member: string; fields: ExitField[] }
}

/** Anonymous members are folded into their parent, as in the layouts. */
function flatten(fields: ExitField[]): ExitField[] {
  return fields.flatMap((field) =>
    field.name.startsWith('(anonymous') ? flatten(field.fields ?? []) : [field],
  )
}

function compareFields(struct: StructName, base: number, fields: ExitField[]): void {
  const layout = layouts[struct]
  const flat = flatten(fields)
  expect(Object.keys(layout.fields)).toEqual(flat.map(({ name }) => name))
  for (const { name, offset, size, fields: inner } of flat) {
    const field = layout.fields[name]!
    expect({ name, offset: base + field.offset, size: field.size }).toEqual({ name, offset, size })
    if (inner) compareFields(field.type.slice('struct:'.length) as StructName, offset, inner)
  }
}

describe('exits', () => {
  const facts = reference('kvm-exits')
  const exits: Exit[] = facts.exits
  const run = layouts.kvm_run

  it('have their numbers', () => {
    const expected = Object.fromEntries(exits.map(({ name, number }) => [name, number]))
    expect(uapi.exitNumbers).toEqual(expected)
    for (const { name, number } of exits) expect(uapi.exitName(number)).toBe(name)
  })

  it('kvm_run is laid out as the reference says', () => {
    expect(run.size).toBe(facts.sizeofKvmRun)
    for (const { name, offset, size } of facts.commonFields) {
      expect(run.fields[name]).toMatchObject({ offset, size })
    }
    expect(run.fields.padding).toMatchObject({ offset: facts.unionOffset, size: facts.unionSize })
    expect(run.fields.s).toMatchObject({ offset: facts.syncRegs.offset, size: facts.syncRegs.size })
    for (const { name, offset, size } of facts.syncRegs.parts) {
      const part = layouts.kvm_sync_regs.fields[name]!
      expect(run.fields.s!.offset + part.offset).toBe(offset)
      expect(part.size).toBe(size)
    }
  })

  const filled = exits.filter(({ x86, member }) => x86 && member)
  it.each(filled)('$name fills kvm_run.$member', (exit) => {
    const field = run.fields[exit.member!]!
    expect(field.offset).toBe(facts.unionOffset)
    expect(field.size).toBe(exit.memberSize)
    const names = [exit.member!, ...(exit.overlay ? [exit.overlay.member] : [])]
    expect(run.select!.members[exit.number]).toEqual(names)
    const struct = field.type.slice('struct:'.length) as StructName
    compareFields(struct, facts.unionOffset, exit.fields!)
    if (exit.overlay) {
      compareFields('kvm_run.emulation_failure', facts.unionOffset, exit.overlay.fields)
    }
  })
})

describe('sub-commands', () => {
  const facts = reference('kvm-subcommands')

  it.each(
    facts.sev.concat(facts.tdx) as { name: string; id: number; struct: string; size: number }[],
  )('$name', ({ name, id, struct, size }) => {
    expect(constants[name]).toBe(id)
    if (struct) expect(layouts[struct as StructName].size).toBe(size)
  })

  it('Xen attributes and VM types have their numbers', () => {
    const { xenVmAttributes, xenVcpuAttributes, vmTypes } = facts
    const all = Object.entries({ ...xenVmAttributes, ...xenVcpuAttributes, ...vmTypes })
    expect(all.length).toBeGreaterThan(20)
    for (const [name, number] of all) expect([name, constants[name]]).toEqual([name, number])
  })

  it('device attributes have their numbers', () => {
    const pairs = (facts.deviceAttributes as { group: string; attr: string }[]).flatMap((fact) =>
      [fact.group, fact.attr].map((text) => /^(\w+) \((\d+)\)$/.exec(text)!),
    )
    for (const [, name, number] of pairs)
      expect([name, constants[name!]]).toEqual([name, Number(number)])
  })
})
