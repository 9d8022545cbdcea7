// Properties of every generated codec, with values made from the layouts.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import * as uapi from '../../src/uapi/index.js'
import { type FieldLayout, layouts, type StructName, StructView } from '../../src/uapi/index.js'

// biome-ignore lint/suspicious/noExplicitAny: the codecs are looked up by name
type Any = any

const module = uapi as Any
const names = Object.keys(layouts) as StructName[]
/** A union whose member its holder selects is tested through the holder. */
const alone = names.filter((name) => layouts[name].kind === 'struct' || !layouts[name].select)
const widths: Record<string, number> = {
  u8: 8,
  i8: 8,
  u16: 16,
  i16: 16,
  u32: 32,
  i32: 32,
  u64: 64,
  i64: 64,
  pointer: 64,
}

function codec(name: StructName): { decode: Any; encode: Any } {
  const { typeName } = layouts[name]
  return { decode: module[`decode${typeName}`], encode: module[`encode${typeName}`] }
}

function inner(field: FieldLayout): StructName | undefined {
  const match = /^struct:(.*)$/.exec(field.type)
  return match ? (match[1] as StructName) : undefined
}

function visible(name: StructName): [string, FieldLayout][] {
  return Object.entries(layouts[name].fields).filter(
    ([, field]) => !field.padding && !field.flexible,
  )
}

/** Sets of fields of which a value has one. */
function choices(name: StructName): [string, FieldLayout][][] {
  const fields = visible(name)
  const { kind, select } = layouts[name]
  if (kind === 'union') return fields.length > 1 || select ? [fields] : []
  const groups = new Set(
    fields.map(([, { union }]) => union).filter((union) => union !== undefined),
  )
  return [...groups]
    .map((group) => fields.filter(([, { union }]) => union === group))
    .filter((fields) => fields.length > 1)
}

function scalar(field: FieldLayout): fc.Arbitrary<Any> {
  const bits = field.bits?.width ?? widths[field.type]!
  if (field.number) return fc.maxSafeNat()
  if (bits === 64) {
    return field.type === 'i64'
      ? fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n)
      : fc.bigInt(0n, 2n ** 64n - 1n)
  }
  if (field.type.startsWith('i'))
    return fc.integer({ min: -(2 ** (bits - 1)), max: 2 ** (bits - 1) - 1 })
  return fc.integer({ min: 0, max: 2 ** bits - 1 })
}

/** Arrays are filled from a few values: thousands of independent ones would only be slow. */
function repeat(item: fc.Arbitrary<Any>, dims: readonly number[]): fc.Arbitrary<Any> {
  const [count, ...rest] = dims
  if (count === undefined) return item
  return fc
    .array(repeat(item, rest), { minLength: 1, maxLength: Math.min(count, 5) })
    .map((items) => Array.from({ length: count }, (_, k) => items[k % items.length]))
}

function bytes(length: number): fc.Arbitrary<Uint8Array> {
  return fc
    .array(fc.integer({ min: 0, max: 255 }), {
      minLength: 1,
      maxLength: Math.min(Math.max(length, 1), 9),
    })
    .map((items) => Uint8Array.from({ length }, (_, k) => items[k % items.length]!))
}

function fieldValue(field: FieldLayout, tag: Any): fc.Arbitrary<Any> {
  const dims = field.dims ?? []
  if (field.type === 'u8' && dims.length > 0) return repeat(bytes(dims.at(-1)!), dims.slice(0, -1))
  const struct = inner(field)
  return repeat(struct ? value(struct, tag) : scalar(field), dims)
}

/** Any value of a struct; `tag` is what the holder of a selected union has in its selecting field. */
function value(name: StructName, tag?: number): fc.Arbitrary<Any> {
  const holder = visible(name).find(([, field]) => layouts[inner(field)!]?.select)
  const select = layouts[name].kind === 'struct' ? layouts[name].select : undefined
  const by = select?.by ?? (holder && layouts[inner(holder[1])!].select!.by)
  if (by === undefined) return fields(name, tag, {})
  const members = (select ?? layouts[inner(holder![1])!].select!).members
  const tags = [...Object.keys(members).map(Number), 0xfff]
  return fc.constantFrom(...tags).chain((chosen) => fields(name, chosen, { [by]: chosen }))
}

function fields(
  name: StructName,
  tag: number | undefined,
  fixed: Record<string, number>,
): fc.Arbitrary<Any> {
  const chosen = choices(name)
  const optional = new Set(chosen.flat().map(([field]) => field))
  const always = visible(name).filter(([field]) => !optional.has(field))
  const record = fc.record(
    Object.fromEntries(always.map(([field, layout]) => [field, fieldValue(layout, tag)])),
  )
  const select = layouts[name].select
  return chosen.reduce(
    (sum: fc.Arbitrary<Any>, group) => {
      const allowed = select
        ? group.filter(([field]) => select.members[tag!]?.[0] === field)
        : group
      const one =
        allowed.length > 0
          ? fc.oneof(
              ...allowed.map(([field, layout]) =>
                fieldValue(layout, tag).map((item) => ({ [field]: item })),
              ),
            )
          : layouts[name].kind === 'union'
            ? bytes(layouts[name].size).map((raw) => ({ raw }))
            : fc.constant({})
      return fc.tuple(sum, one).map(([a, b]) => ({ ...a, ...b }))
    },
    record.map((rest) => ({ ...rest, ...fixed })),
  )
}

/** `given` is what was encoded; a union may decode to more members than that. */
function expectGiven(actual: Any, given: Any): void {
  if (given instanceof Uint8Array || typeof given !== 'object') {
    expect(actual).toEqual(given)
    return
  }
  if (Array.isArray(given)) {
    expect(actual).toHaveLength(given.length)
    given.forEach((item, k) => {
      expectGiven(actual[k], item)
    })
    return
  }
  for (const key of Object.keys(given)) expectGiven(actual[key], given[key])
}

/** A view full of ones, so that what is not written shows. */
function dirty(size: number): StructView {
  const view = new StructView(size)
  view.u8.fill(0xff)
  return view
}

describe.each(alone)('%s', (name) => {
  const { decode, encode } = codec(name)
  const { size, align } = layouts[name]

  it('decodes what was encoded', () => {
    fc.assert(
      fc.property(value(name), fc.nat(3), (given, place) => {
        const offset = place * align
        const view = dirty(offset + size + 16)
        encode(view, offset, given)
        expectGiven(decode(view, offset), given)
        const outside = [...view.u8.subarray(0, offset), ...view.u8.subarray(offset + size)]
        expect(outside.every((byte) => byte === 0xff)).toBe(true)
      }),
      { numRuns: 25 },
    )
  })

  it('decodes every field from where the layout says', () => {
    fc.assert(
      fc.property(bytes(size), fc.nat(3), (source, place) => {
        const view = new StructView(place * align + size)
        view.u8.set(source, place * align)
        expect(decode(view, place * align)).toEqual(readStruct(name, view, place * align))
      }),
      { numRuns: 10 },
    )
  })

  it('refuses a place that is not aligned or not inside', () => {
    const view = new StructView(size + 8)
    const [given] = fc.sample(value(name), { numRuns: 1, seed: 1 })
    const outside = view.byteLength - size + align
    for (const offset of [outside, -align, Number.NaN, ...(align > 1 ? [1] : [])]) {
      const error = { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' }
      expect(() => decode(view, offset)).toThrow(expect.objectContaining(error))
      expect(() => encode(view, offset, given)).toThrow(expect.objectContaining(error))
    }
  })

  it('refuses wrong values and leaves the bytes alone', () => {
    for (const [path, wrong, code] of wrongs(name)) {
      const [given] = fc.sample(value(name), { numRuns: 1, seed: 3 })
      const broken = replace(given, path, wrong)
      if (broken === undefined) continue
      const view = dirty(size)
      const where = path
        .map((part) => (typeof part === 'number' ? `[${part}]` : `.${part}`))
        .join('')
      expect(() => encode(view, 0, broken), `${where} = ${String(wrong)}`).toThrow(
        expect.objectContaining({
          code,
          message: expect.stringContaining(
            String(path.filter((p) => typeof p === 'string').at(-1) ?? name),
          ),
        }),
      )
      expect(view.u8.every((byte) => byte === 0xff)).toBe(true)
    }
  })
})

describe.each(alone.filter((name) => !layouts[name].select))('%s, into an object', (name) => {
  const { decode } = codec(name)
  const { size } = layouts[name]

  it('decodes as into a new one', () => {
    const [first, second] = fc.sample(bytes(size), { numRuns: 2, seed: 7 })
    const view = new StructView(size)
    view.u8.set(first!)
    const object = decode(view)
    view.u8.set(second!)
    const result = decode(view, 0, object)
    expect(result).toEqual(decode(view))
    // A selected union may lose members, so what is such a union has no `into`.
    if (layouts[name].kind === 'struct') expect(result).toBe(object)
  })
})

const unselected = names.filter(
  (name) => !names.some((other) => reaches(name, other) && layouts[other].select),
)

describe.each(unselected)('%s, from bytes', (name) => {
  const { decode, encode } = codec(name)
  const { size } = layouts[name]

  it('encodes what was decoded, padding as zero', () => {
    fc.assert(
      fc.property(bytes(size), fc.nat(3), (source, place) => {
        const offset = place * layouts[name].align
        const from = new StructView(size)
        from.u8.set(source)
        const mask = meaning(name, from)
        const to = dirty(offset + size)
        encode(to, offset, decode(from, 0))
        const expected = from.u8.slice(0, size).map((byte, k) => byte & mask[k]!)
        expect(to.u8.slice(offset, offset + size)).toEqual(expected)
      }),
      { numRuns: 25 },
    )
  })
})

describe.each([
  ['kvm_irqchip', 'chip_id'],
  ['kvm_irq_routing_entry', 'type'],
  ['kvm_nested_state', 'format'],
  ['kvm_xen_hvm_attr', 'type'],
  ['kvm_xen_vcpu_attr', 'type'],
  ['kvm_hyperv_exit', 'type'],
  ['kvm_xen_exit', 'type'],
  ['kvm_run', 'exit_reason'],
] as [StructName, string][])('%s, selected by %s', (name, by) => {
  it('decodes the members of each value from where the layout says', () => {
    const { decode } = codec(name)
    const { size, fields, select } = layouts[name]
    const members = (select ?? layouts[inner(fields[unionField(name)!]!)!].select!).members
    const [source] = fc.sample(bytes(size), { numRuns: 1, seed: 5 })
    const view = new StructView(size)
    for (const tag of [...Object.keys(members).map(Number), 0xfff]) {
      view.u8.set(source!)
      view.u16[fields[by]!.offset / 2] = tag
      if (fields[by]!.size === 4) view.u16[fields[by]!.offset / 2 + 1] = 0
      expect(decode(view)).toEqual(readStruct(name, view, 0))
    }
  })
})

/** The field of a struct that is a union it selects. */
function unionField(name: StructName): string | undefined {
  return visible(name).find(([, field]) => layouts[inner(field)!]?.select)?.[0]
}

/** A struct's value read by the layout alone, through a DataView: slow and obvious. */
function readStruct(name: StructName, view: StructView, base: number, tag?: number): Any {
  const { kind, select, size } = layouts[name]
  const out: Any = {}
  const own =
    kind === 'struct' && select ? readScalar(layouts[name].fields[select.by]!, view, base) : tag
  for (const [field, layout] of visible(name)) {
    const chosen = kind === 'union' || layout.union !== undefined
    if (select && chosen && !select.members[own]?.includes(field)) continue
    const holder = layouts[inner(layout)!]?.select
    const by = holder && holder !== select ? layouts[name].fields[holder.by] : undefined
    const value = by && readScalar(by, view, base)
    out[field] = readDims(layout, layout.dims ?? [], view, base + layout.offset, value)
  }
  if (kind === 'union' && select && Object.keys(out).length === 0)
    out.raw = view.u8.slice(base, base + size)
  return out
}

function readDims(
  field: FieldLayout,
  dims: readonly number[],
  view: StructView,
  at: number,
  tag: Any,
): Any {
  const [count, ...rest] = dims
  const struct = inner(field)
  if (count === undefined) {
    return struct
      ? readStruct(struct, view, at, tag)
      : readScalar({ ...field, offset: 0 }, view, at)
  }
  if (field.type === 'u8' && rest.length === 0) return view.u8.slice(at, at + count)
  const size = rest.reduce(
    (product, n) => product * n,
    struct ? layouts[struct].size : widths[field.type]! / 8,
  )
  return Array.from({ length: count }, (_, k) => readDims(field, rest, view, at + k * size, tag))
}

function readScalar(field: FieldLayout, view: StructView, base: number): Any {
  const data = new DataView(view.buffer as ArrayBuffer)
  const at = base + field.offset
  const { shift, width } = field.bits ?? { shift: 0, width: 8 }
  switch (field.type) {
    case 'u8':
      return (data.getUint8(at) >> shift) & ((1 << width) - 1)
    case 'i8':
      return data.getInt8(at)
    case 'u16':
      return data.getUint16(at, true)
    case 'i16':
      return data.getInt16(at, true)
    case 'u32':
      return data.getUint32(at, true)
    case 'i32':
      return data.getInt32(at, true)
    case 'i64':
      return data.getBigInt64(at, true)
    default:
      return field.number ? Number(data.getBigUint64(at, true)) : data.getBigUint64(at, true)
  }
}

function reaches(from: StructName, to: StructName): boolean {
  return (
    from === to ||
    Object.values(layouts[from].fields).some((field) => {
      const struct = inner(field)
      return struct !== undefined && reaches(struct, to)
    })
  )
}

/**
 * Which bits of a struct's bytes a round trip keeps: those of visible fields. Number fields keep 53
 * bits, so the bytes above are cleared in `view` first.
 */
function meaning(name: StructName, view: StructView): Uint8Array {
  const mask = new Uint8Array(layouts[name].size)
  const walk = (struct: StructName, base: number) => {
    for (const [, field] of visible(struct)) {
      const count = (field.dims ?? []).reduce((product, n) => product * n, 1)
      const step = field.size / count
      for (let k = 0; k < count; k++) {
        const at = base + field.offset + k * step
        const type = inner(field)
        if (type) walk(type, at)
        else if (field.bits) mask[at]! |= ((1 << field.bits.width) - 1) << field.bits.shift
        else mask.fill(0xff, at, at + step)
        if (field.number) view.u8.fill(0, at + 6, at + 8)
      }
    }
  }
  walk(name, 0)
  return mask
}

type Path = (string | number)[]

/** Values that each field must refuse, with the error's code. */
function wrongs(name: StructName): [Path, unknown, string][] {
  const type = 'ERR_INVALID_ARG_TYPE'
  const range = 'ERR_OUT_OF_RANGE'
  const out: [Path, unknown, string][] = [
    [[], null, type],
    [[], 5, type],
  ]
  for (const [field, layout] of visible(name)) {
    if (layout.dims) {
      out.push(
        [[field], 5, type],
        [
          [field],
          layout.type === 'u8' ? new Uint8Array(1e4) : new Array(1e4).fill(0),
          layout.dims.length > 1 ? type : range,
        ],
      )
    }
    if (inner(layout) && !layout.dims) out.push([[field], 'x', type], [[field], null, type])
    if (inner(layout) || (layout.type === 'u8' && layout.dims)) continue
    const path = [field, ...(layout.dims ?? []).map((count) => count - 1)]
    out.push(
      ...wrongScalars(layout).map(([wrong, code]): [Path, unknown, string] => [path, wrong, code]),
    )
  }
  return out
}

function wrongScalars(field: FieldLayout): [unknown, string][] {
  const type = 'ERR_INVALID_ARG_TYPE'
  const range = 'ERR_OUT_OF_RANGE'
  const bits = field.bits?.width ?? widths[field.type]!
  const signed = field.type.startsWith('i')
  const always: [unknown, string][] = [
    ['1', type],
    [{}, type],
    [Symbol('s'), type],
    [true, type],
    [null, type],
  ]
  if (field.number)
    return [...always, [1n, type], [-1, range], [2 ** 53, range], [1.5, range], [Number.NaN, range]]
  if (bits === 64) {
    const [low, high] = signed ? [-(2n ** 63n) - 1n, 2n ** 63n] : [-1n, 2n ** 64n]
    return [...always, [1, type], [low, range], [high, range]]
  }
  const [low, high] = signed ? [-(2 ** (bits - 1)) - 1, 2 ** (bits - 1)] : [-1, 2 ** bits]
  return [
    ...always,
    [1n, type],
    [low, range],
    [high, range],
    [0.5, range],
    [Number.NaN, range],
    [Number.POSITIVE_INFINITY, range],
  ]
}

/** A copy with one place changed; undefined where this value has no such place (another union member). */
function replace(given: Any, path: Path, wrong: unknown): Any {
  const [key, ...rest] = path
  if (key === undefined) return wrong
  if (given?.[key] === undefined) return undefined
  const copy = Array.isArray(given) ? [...given] : { ...given }
  copy[key] = replace(given[key], rest, wrong)
  return copy[key] === undefined ? undefined : copy
}

const selected = names.filter((name) => !alone.includes(name))

describe.each(selected)('%s', (name) => {
  const { encode } = codec(name)

  it('refuses wrong values of each member', () => {
    for (const [member, layout] of visible(name)) {
      const [given] = fc.sample(fieldValue(layout, undefined), { numRuns: 1, seed: 3 })
      const view = dirty(layouts[name].size)
      encode(view, 0, { [member]: given })
      view.u8.fill(0xff)
      const wrong: [unknown, string][] = inner(layout)
        ? [
            [null, 'ERR_INVALID_ARG_TYPE'],
            [1, 'ERR_INVALID_ARG_TYPE'],
          ]
        : wrongScalars(layout)
      for (const [item, code] of wrong) {
        const message = expect.stringContaining(`${name}.${member}`)
        expect(() => encode(view, 0, { [member]: item })).toThrow(
          expect.objectContaining({ code, message }),
        )
      }
      expect(view.u8.every((byte) => byte === 0xff)).toBe(true)
    }
  })

  it('takes raw bytes of exactly its size', () => {
    const view = dirty(layouts[name].size)
    expect(() => encode(view, 0, { raw: new Uint8Array(3) })).toThrow(
      expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
    )
    expect(() => encode(view, 0, { raw: [] })).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }),
    )
    const raw = new Uint8Array(layouts[name].size).fill(7)
    encode(view, 0, { raw })
    expect(view.u8.slice(0, raw.length)).toEqual(raw)
  })
})

describe('flexible arrays', () => {
  const tails = names.flatMap((name) =>
    Object.entries(layouts[name].fields)
      .filter(([, field]) => field.flexible)
      .map(([field, layout]) => ({ title: `${name}.${field}`, name, field, layout })),
  )

  it.each(tails)(
    '$title decodes what was encoded, and refuses what does not fit',
    ({ name, field, layout }) => {
      const suffix =
        layouts[name].typeName +
        field
          .split(/_/)
          .map((part) => part[0]!.toUpperCase() + part.slice(1))
          .join('')
      const decode = module[`decode${suffix}`]
      const encode = module[`encode${suffix}`]
      const struct = inner(layout)
      const width = struct ? layouts[struct].size : widths[layout.type]! / 8
      const list =
        layout.type === 'u8'
          ? fc.nat(20).chain(bytes)
          : fc.array(struct ? value(struct) : scalar(layout), { maxLength: 9 })
      fc.assert(
        fc.property(list, fc.nat(2), (given, place) => {
          const offset = place * 8
          const start = offset + layout.offset
          const view = dirty(start + given.length * width)
          encode(view, offset, given)
          expectGiven(decode(view, given.length, offset), given)
          const more = Math.floor(view.byteLength / width) + 1
          expect(() => decode(view, more, offset)).toThrow(
            expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
          )
          expect(() => decode(view, -1, offset)).toThrow(
            expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
          )
          expect(() => decode(view, 0.5, offset)).toThrow(
            expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
          )
        }),
        { numRuns: 25 },
      )
      const view = new StructView(layout.offset + 64)
      const [item] = fc.sample(struct ? value(struct) : scalar(layout), 1)
      const many = layout.type === 'u8' ? new Uint8Array(100) : new Array(100).fill(item)
      expect(() => encode(view, 0, many)).toThrow(
        expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
      )
      expect(() => encode(view, 0, undefined)).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }),
      )
      if (layout.type !== 'u8') {
        expect(() => encode(view, 0, ['x'])).toThrow(
          expect.objectContaining({
            code: 'ERR_INVALID_ARG_TYPE',
            message: expect.stringContaining(`${name}.${field}[0]`),
          }),
        )
      }
    },
  )

  it('names the element that is wrong', () => {
    const view = new StructView(64)
    const entries = [
      { index: 1, data: 0n },
      { index: 2, data: 2n ** 64n },
    ]
    expect(() => uapi.encodeKvmMsrsEntries(view, 0, entries)).toThrow(
      '"kvm_msrs.entries[1].data" is out of range',
    )
  })
})

describe('unions', () => {
  it('the selecting field says which member is decoded', () => {
    const view = new StructView(48)
    const msi = { address_lo: 0xfee00000, address_hi: 0, data: 0x30, devid: 0 }
    const entry = { gsi: 5, type: uapi.KVM_IRQ_ROUTING_MSI, flags: 0, u: { msi } }
    uapi.encodeKvmIrqRoutingEntry(view, 0, entry)
    expect(uapi.decodeKvmIrqRoutingEntry(view)).toEqual(entry)
    view.u32[1] = 99
    expect(Object.keys(uapi.decodeKvmIrqRoutingEntry(view).u)).toEqual(['raw'])
  })

  it('members that differ are refused, members that agree are not', () => {
    const view = new StructView(216)
    const state = uapi.decodeKvmIoapicState(view)
    state.redirtbl[3]!.fields!.mask = 1
    expect(() => uapi.encodeKvmIoapicState(view, 0, state)).toThrow(
      expect.objectContaining({
        code: 'ERR_INVALID_ARG_VALUE',
        message: expect.stringContaining('redirtbl[3]'),
      }),
    )
    state.redirtbl[3]!.bits = 0x10000n
    uapi.encodeKvmIoapicState(view, 0, state)
    expect(uapi.decodeKvmIoapicState(view).redirtbl[3]).toEqual(state.redirtbl[3])
  })

  it('a union with no member given is encoded as zero', () => {
    const view = dirty(520)
    uapi.encodeKvmIrqchip(view, 0, { chip_id: uapi.KVM_IRQCHIP_IOAPIC, chip: {} })
    expect(view.u8.subarray(8, 520).every((byte) => byte === 0)).toBe(true)
  })

  it('each exit reason decodes its own member of kvm_run', () => {
    const view = new StructView(layouts.kvm_run.size)
    for (const [reason, members] of Object.entries(layouts.kvm_run.select!.members)) {
      view.u32[2] = Number(reason)
      const run = uapi.decodeKvmRun(view) as Any
      const present = Object.keys(layouts.kvm_run.fields).filter(
        (name) => layouts.kvm_run.fields[name]!.union !== undefined && name in run,
      )
      expect(present.sort()).toEqual([...members].sort())
    }
  })
})

describe('guest-physical addresses and sizes', () => {
  it('are numbers, beyond 32 bits too', () => {
    const view = new StructView(32)
    const region = {
      slot: 1,
      flags: 0,
      guest_phys_addr: 0x1_0000_0000,
      memory_size: 2 ** 45 + 4096,
      userspace_addr: 0n,
    }
    uapi.encodeKvmUserspaceMemoryRegion(view, 0, region)
    expect([view.u64[1], view.u64[2]]).toEqual([0x1_0000_0000n, 2n ** 45n + 4096n])
    expect(uapi.decodeKvmUserspaceMemoryRegion(view)).toEqual(region)
  })

  it('that no double holds exactly decode to the nearest one', () => {
    const view = new StructView(24)
    view.u64[1] = 2n ** 64n - 1n
    expect(uapi.decodeKvmTranslation(view).physical_address).toBe(2 ** 64)
  })
})
