// Which opcodes can take which operands. Values are looked at later: whether they fit is known only
// when labels have addresses.

import { type Bits, type Opcode, opcodesOf } from './opcodes.js'
import type { MemoryReference, Operand } from './operand.js'
import { registerNamed } from './registers.js'

const FIXED = new Set('es cs ss ds fs gs al cl ax dx eax rax st0'.split(' '))
/** Operands that string instructions have without naming them. */
const IMPLIED = new Set('seg_rSI es_rDI seg_rDI seg_rBX_al al ax eax rax dx'.split(' '))

/** An opcode whose operands, by their kinds, are those of the statement. */
export interface Match {
  readonly opcode: Opcode
  /** The operands, in the order of `opcode.kinds`; undefined where one is implied. */
  readonly operands: readonly (Operand | undefined)[]
}

/** Whether an operand of that kind takes what the source gives. */
function takes(kind: string, operand: Operand, opcode: Opcode, bits: Bits): boolean {
  if (operand.kind === 'register') return takesRegister(kind, operand.register)
  if (operand.kind === 'memory') return takesMemory(kind, operand, opcode, bits)
  if (operand.kind === 'far') return kind === `farbr${operand.size ?? (bits === 16 ? 2 : 4)}_2`
  // A branch of another size cuts the instruction pointer.
  const branch = kind.startsWith(`br${bits}_`) || kind === (bits === 16 ? 'xbegin_2' : 'xbegin_4')
  return branch || kind.startsWith('imm')
}

function takesRegister(kind: string, register: { name: string; class: string }): boolean {
  if (FIXED.has(kind)) return register.name === kind
  if (kind === 'sti_opcode') return register.class === 'st'
  const [itsClass, form] = kind.split('_', 2)
  return itsClass === register.class && form !== undefined
}

function takesMemory(kind: string, operand: MemoryReference, opcode: Opcode, bits: Bits): boolean {
  const vector = /^mem_vsib\d\d([xyz])$/.exec(kind)
  if (vector) return operand.index?.class === `${vector[1]}mm`
  if (operand.index && /mm$/.test(operand.index.class)) return false
  const relative = operand.relative && bits === 64
  if (kind === 'mem_offs' && (operand.base || operand.index || relative)) return false
  const memory = kind === 'sibmem' || kind === 'mem' || /^mem_(mpx|mib|offs)$/.test(kind)
  if (!memory && !/_or_mem(_mpx)?$/.test(kind)) return false
  return !operand.size || !opcode.memorySize || operand.size === opcode.memorySize
}

/** A far pointer in memory, which only JMP, CALL and the loads of segment registers take. */
function isFar(opcode: Opcode, mnemonic: string): boolean {
  return /^(jmp|call)$/.test(mnemonic) && opcode.kinds[0] === 'mem'
}

/** The opcodes of `mnemonic` that can take the operands in code of that size. */
export function matchesOf(mnemonic: string, operands: readonly Operand[], bits: Bits): Match[] {
  const opcodes = opcodesOf(mnemonic, bits)
  for (const form of formsOf(mnemonic, operands)) {
    const matches = opcodes.flatMap((opcode) => match(mnemonic, opcode, form, bits) ?? [])
    if (matches.length > 0) return matches
  }
  return []
}

/** The operands in the orders in which they may be written. */
function formsOf(mnemonic: string, operands: readonly Operand[]): (readonly Operand[])[] {
  if (/^(xchg|test)$/.test(mnemonic)) return [operands, [...operands].reverse()]
  const [only] = operands
  const stack = operands.length === 1 && only?.kind === 'register' && only.register.class === 'st'
  if (!stack) return [operands]
  const top: Operand = { kind: 'register', register: registerNamed('st0')! }
  return [operands, [top, only], [only, top]]
}

function match(
  mnemonic: string,
  opcode: Opcode,
  operands: readonly Operand[],
  bits: Bits,
): Match | undefined {
  const far = operands.some((operand) => operand.kind === 'memory' && operand.far)
  if (isFar(opcode, mnemonic) !== far) return undefined
  const { kinds } = opcode
  if (operands.length === 0 && kinds.every((kind) => IMPLIED.has(kind))) {
    return { opcode, operands: kinds.map(() => undefined) }
  }
  const fit = operands.every((operand, i) => takes(kinds[i] ?? '', operand, opcode, bits))
  return fit && kinds.length === operands.length ? { opcode, operands } : undefined
}

/** Branches and pushes have one natural size: the shortest encoding is that one. */
const NATURAL = /^(jmp|call|push|pop|[ls][gi]dt|ltr|lldt|v?(ld|st)mxcsr)$/

/** The sizes between which the source does not decide; empty where it does. */
export function openSizes(mnemonic: string, matches: readonly Match[]): number[] {
  if (NATURAL.test(mnemonic)) return []
  const unsized = matches.filter(({ operands }) =>
    operands.some((operand) => operand?.kind === 'memory' && operand.size === undefined),
  )
  const sizes = new Set(unsized.map(({ opcode }) => opcode.memorySize))
  return sizes.size > 1 && unsized.length === matches.length ? [...sizes] : []
}
