// One mechanism for every register that is made of named bits: a table says where each field lies
// and of what kind it is; decode, encode and describe follow from the table. All of control
// registers, MSRs, APIC registers and capability words in this folder are such tables.

import { outOfRange } from './out-of-range.js'

/** A single bit, decoded to a boolean. */
export interface FlagField {
  readonly kind: 'flag'
  readonly lsb: number
  readonly width: 1
}

/** An unsigned field of at most 52 bits, shifted down to bit 0, decoded to a number. */
export interface NumberField {
  readonly kind: 'number'
  readonly lsb: number
  readonly width: number
}

/** A guest-physical address left in place (its low `lsb` bits are zero), decoded to a number. */
export interface AddressField {
  readonly kind: 'address'
  readonly lsb: number
  readonly width: number
}

/** An unsigned field shifted down to bit 0, decoded to a bigint. */
export interface BigintField {
  readonly kind: 'bigint'
  readonly lsb: number
  readonly width: number
}

/** A field whose values have names; a value without a name stays a number. */
export interface ChoiceField<Name extends string = string> {
  readonly kind: 'choice'
  readonly lsb: number
  readonly width: number
  readonly values: Readonly<Record<Name, number>>
}

/** Where one field lies in a register and how its value appears in TypeScript. */
export type BitField = FlagField | NumberField | AddressField | BigintField | ChoiceField

/** The named fields of a register, in the order in which they are shown. */
export type BitFields = Readonly<Record<string, BitField>>

/** The type that a field decodes to. */
export type BitFieldValue<F extends BitField> = F extends FlagField
  ? boolean
  : F extends BigintField
    ? bigint
    : F extends ChoiceField<infer Name>
      ? Name | number
      : number

/** A register with every field decoded. */
export type Decoded<D extends BitFields> = { -readonly [K in keyof D]: BitFieldValue<D[K]> }

/** The names of the single-bit fields of a register. */
export type FlagName<D extends BitFields> = {
  [K in keyof D]: D[K] extends FlagField ? K : never
}[keyof D] &
  string

/** Describes a single bit. */
export function flag(bit: number): FlagField {
  return { kind: 'flag', lsb: bit, width: 1 }
}

/** Describes an unsigned number of at most 52 bits. */
export function field(lsb: number, width: number): NumberField {
  return { kind: 'number', lsb, width }
}

/** Describes a guest-physical address that sits in place, aligned to `1 << lsb` bytes. */
export function address(lsb: number, width: number): AddressField {
  return { kind: 'address', lsb, width }
}

/** Describes an unsigned number too wide for a JavaScript number. */
export function wide(lsb: number, width: number): BigintField {
  return { kind: 'bigint', lsb, width }
}

/** Describes a field whose values have names. */
export function choice<Name extends string>(
  lsb: number,
  width: number,
  values: Readonly<Record<Name, number>>,
): ChoiceField<Name> {
  return { kind: 'choice', lsb, width, values }
}

/** The bits that a field occupies, as a mask over the whole register. */
export function fieldMask(f: BitField): bigint {
  return ((1n << BigInt(f.width)) - 1n) << BigInt(f.lsb)
}

/** The union of the named single bits: `flagBits(CR0, 'PE', 'PG')` is `0x80000001n`. */
export function flagBits<D extends BitFields>(fields: D, ...names: FlagName<D>[]): bigint {
  return names.reduce((bits, name) => bits | fieldMask(fields[name]!), 0n)
}

/** Every bit that the table names. */
export function knownBits(fields: BitFields): bigint {
  return Object.values(fields).reduce((bits, f) => bits | fieldMask(f), 0n)
}

/** The set bits of `value` that the table does not name (reserved, or newer than the table). */
export function unknownBits(fields: BitFields, value: bigint | number): bigint {
  return BigInt(value) & ~knownBits(fields)
}

/** Splits a register value into its named fields. Bits without a name are ignored. */
export function decodeBits<D extends BitFields>(fields: D, value: bigint | number): Decoded<D> {
  const word = BigInt(value)
  const entries = Object.entries(fields).map(([name, f]) => [name, decodeField(f, word)])
  return Object.fromEntries(entries) as Decoded<D>
}

/**
 * Builds a register value from named fields. Fields that are left out keep their bits of `base`
 * (zero by default), and so do bits without a name: `encodeBits(CR4, { PAE: true }, old)`.
 *
 * @throws RangeError (`ERR_OUT_OF_RANGE`) for an unknown field, or a value that does not fit.
 */
export function encodeBits<D extends BitFields>(
  fields: D,
  values: Partial<Decoded<D>>,
  base: bigint | number = 0n,
): bigint {
  let word = BigInt(base)
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined) continue
    const f = fields[name]
    if (f === undefined) throw outOfRange(name, 'the name of a field of this register', name)
    word = (word & ~fieldMask(f)) | encodeField(name, f, value as boolean)
  }
  return word
}

/**
 * Names what is set, in the table's order: `'PE MP ET NE'`, fields as `PCID=5`, choices as
 * `mode=nmi`; choices are always shown, numbers only when not zero. Bits without a name follow as
 * one hexadecimal number. An empty string when nothing is set.
 */
export function describeBits(fields: BitFields, value: bigint | number): string {
  const word = BigInt(value)
  const words = Object.entries(fields).flatMap(([name, f]) => describeField(name, f, word))
  const rest = unknownBits(fields, word)
  if (rest !== 0n) words.push(`0x${rest.toString(16)}`)
  return words.join(' ')
}

function extract(f: BitField, word: bigint): bigint {
  return (word >> BigInt(f.lsb)) & ((1n << BigInt(f.width)) - 1n)
}

function decodeField(f: BitField, word: bigint): boolean | number | bigint | string {
  const raw = extract(f, word)
  switch (f.kind) {
    case 'flag':
      return raw !== 0n
    case 'number':
      return Number(raw)
    case 'address':
      return Number(raw << BigInt(f.lsb))
    case 'bigint':
      return raw
    case 'choice':
      return choiceName(f, Number(raw)) ?? Number(raw)
  }
}

function choiceName(f: ChoiceField, raw: number): string | undefined {
  return Object.keys(f.values).find((name) => f.values[name] === raw)
}

function encodeField(name: string, f: BitField, value: boolean | number | bigint | string): bigint {
  const word = f.kind === 'address' ? BigInt(integer(name, value)) : rawValue(name, f, value)
  const bits = f.kind === 'address' ? word : word << BigInt(f.lsb)
  if (word < 0n || (bits & ~fieldMask(f)) !== 0n) {
    const rule =
      f.kind === 'address'
        ? `an address within bits ${f.lsb + f.width - 1}:${f.lsb}`
        : `an unsigned ${f.width}-bit value`
    throw outOfRange(name, rule, value)
  }
  return bits
}

function rawValue(name: string, f: BitField, value: boolean | number | bigint | string): bigint {
  if (f.kind !== 'choice' || typeof value !== 'string') return BigInt(integer(name, value))
  const number = f.values[value]
  if (number === undefined) {
    throw outOfRange(name, `one of ${Object.keys(f.values).join(', ')}`, value)
  }
  return BigInt(number)
}

function integer(name: string, value: boolean | number | bigint | string): bigint {
  if (typeof value === 'string' || (typeof value === 'number' && !Number.isSafeInteger(value))) {
    throw outOfRange(name, 'an integer', value)
  }
  return BigInt(value)
}

function describeField(name: string, f: BitField, word: bigint): string[] {
  const raw = extract(f, word)
  if (f.kind === 'choice') return [`${name}=${choiceName(f, Number(raw)) ?? raw}`]
  if (raw === 0n) return []
  if (f.kind === 'flag') return [name]
  if (f.kind === 'address') return [`${name}=0x${(raw << BigInt(f.lsb)).toString(16)}`]
  return [`${name}=${raw < 10n ? raw : `0x${raw.toString(16)}`}`]
}
