// Gates: the entries of an IDT, and the call and task gates of a GDT or LDT.

import { decodeBits, encodeBits, field, flag } from './bitfields.js'
import { checkUnsigned, outOfRange } from './out-of-range.js'

/** What passing through a gate does. */
export type GateKind = 'interrupt' | 'trap' | 'call' | 'task'

/** A gate, whatever its encoding. */
export interface Gate {
  kind: GateKind
  /** Operand size of the handler; 64-bit gates take 16 bytes, the others 8. Task gates are 32. */
  bits: 16 | 32 | 64
  /** Code segment of the handler; TSS selector of a task gate. */
  selector: number
  /** Entry point, a linear address within the segment; unused (zero) in task gates. */
  offset: bigint
  /** Least privileged level that may use the gate by software. */
  dpl: number
  present: boolean
  /** Interrupt stack table slot of a 64-bit interrupt or trap gate: 1 to 7, or 0 for none. */
  ist: number
  /** Parameters copied by a 16- or 32-bit call gate, 0 to 31. */
  parameterCount: number
}

/** Low 8 bytes of a gate. Source: SDM vol. 3A §5.8.3, §6.11 and §6.14.1. */
const GATE_LOW = {
  offsetLow: field(0, 16),
  selector: field(16, 16),
  /** Parameter count of 16- and 32-bit call gates, IST of 64-bit interrupt and trap gates. */
  extra: field(32, 5),
  type: field(40, 4),
  dpl: field(45, 2),
  present: flag(47),
  offsetMiddle: field(48, 16),
}

const TYPES: Readonly<Record<GateKind, { readonly 16?: number; readonly 32: number }>> = {
  interrupt: { 16: 0x6, 32: 0xe },
  trap: { 16: 0x7, 32: 0xf },
  call: { 16: 0x4, 32: 0xc },
  task: { 32: 0x5 },
}

/** A present 64-bit interrupt gate, as most IDTs are made of. */
export function interruptGate64(offset: bigint, selector = 0x8, ist = 0): Gate {
  const rest = { dpl: 0, present: true, parameterCount: 0 } as const
  return { kind: 'interrupt', bits: 64, selector, offset, ist, ...rest }
}

/**
 * Encodes a gate: 16 bytes when `bits` is 64, otherwise 8.
 *
 * @throws RangeError (`ERR_OUT_OF_RANGE`) for an offset that does not fit the operand size, or a
 * kind that does not exist at that size
 */
export function encodeGate(gate: Gate): Uint8Array {
  checkUnsigned('offset', gate.offset, gate.bits)
  const bytes = new Uint8Array(gate.bits === 64 ? 16 : 8)
  const view = new DataView(bytes.buffer)
  view.setBigUint64(0, encodeLow(gate), true)
  if (gate.bits === 64) view.setBigUint64(8, gate.offset >> 32n, true)
  return bytes
}

/**
 * Decodes a gate.
 *
 * @param mode `'long'` for 16-byte gates of long mode, `'legacy'` for 8-byte gates
 * @throws RangeError (`ERR_OUT_OF_RANGE`) when there are too few bytes, or they hold no gate
 */
export function decodeGate(bytes: Uint8Array, mode: 'long' | 'legacy'): Gate {
  const size = mode === 'long' ? 16 : 8
  if (bytes.length < size) throw outOfRange('bytes.length', `at least ${size}`, bytes.length)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const low = decodeBits(GATE_LOW, view.getBigUint64(0, true))
  const { kind, bits } = kindOf(low.type, mode)
  const high = mode === 'long' ? view.getBigUint64(8, true) & 0xffffffffn : 0n
  const middle = bits === 16 ? 0n : BigInt(low.offsetMiddle)
  return {
    kind,
    bits,
    selector: low.selector,
    offset: BigInt(low.offsetLow) + (middle << 16n) + (high << 32n),
    dpl: low.dpl,
    present: low.present,
    ist: bits === 64 && kind !== 'call' ? low.extra % 8 : 0,
    parameterCount: bits !== 64 && kind === 'call' ? low.extra : 0,
  }
}

function encodeLow(gate: Gate): bigint {
  return encodeBits(GATE_LOW, {
    offsetLow: Number(gate.offset & 0xffffn),
    offsetMiddle: Number((gate.offset >> 16n) & 0xffffn),
    selector: gate.selector,
    extra: extraField(gate),
    type: typeOf(gate),
    dpl: gate.dpl,
    present: gate.present,
  })
}

function typeOf({ kind, bits }: Gate): number {
  const type = bits === 64 && kind === 'task' ? undefined : TYPES[kind][bits === 16 ? 16 : 32]
  if (type === undefined) throw outOfRange('kind', `a gate that exists with ${bits} bits`, kind)
  return type
}

// One field of the encoding serves two purposes, so the value that has no place must be zero.
function extraField({ kind, bits, ist, parameterCount }: Gate): number {
  const takesIst = bits === 64 && kind !== 'call'
  const takesCount = bits !== 64 && kind === 'call'
  if (ist < 0 || ist > (takesIst ? 7 : 0)) {
    throw outOfRange('ist', takesIst ? '0 to 7' : '0 in this kind of gate', ist)
  }
  if (parameterCount < 0 || parameterCount > (takesCount ? 31 : 0)) {
    throw outOfRange(
      'parameterCount',
      takesCount ? '0 to 31' : '0 in this kind of gate',
      parameterCount,
    )
  }
  return takesIst ? ist : parameterCount
}

function kindOf(type: number, mode: 'long' | 'legacy'): Pick<Gate, 'kind' | 'bits'> {
  for (const kind of Object.keys(TYPES) as GateKind[]) {
    if (mode === 'long' && kind === 'task') continue
    if (TYPES[kind][32] === type) return { kind, bits: mode === 'long' ? 64 : 32 }
    if (TYPES[kind][16] === type && mode === 'legacy') return { kind, bits: 16 }
  }
  throw outOfRange('type', `the type of a gate in ${mode} mode`, type)
}
