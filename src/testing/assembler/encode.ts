// Encodes one instruction: every opcode that takes its operands is tried, the shortest is taken.

import { Encoder, Instruction, OpKind, Register } from 'iced-x86'
import type { Expression, Resolve } from './expression.js'
import type { Match } from './match.js'
import type { Bits } from './opcodes.js'
import type { MemoryReference, Operand } from './operand.js'

/** Prefixes that the source can give. */
export interface Prefixes {
  readonly lock: boolean
  readonly rep: boolean
  readonly repne: boolean
}

/** Where an instruction stands and what names mean there. */
export interface Place {
  readonly bits: Bits
  readonly address: bigint
  readonly resolve: Resolve
}

const NEAR: Record<Bits, OpKind> = {
  16: OpKind.NearBranch16,
  32: OpKind.NearBranch32,
  64: OpKind.NearBranch64,
}

/** By kind of operand: how it is stored, and the bits from which the sign is extended, to which. */
const IMMEDIATES: Record<string, readonly [OpKind, stored: number, size: number]> = {
  imm4_m2z: [OpKind.Immediate8, 4, 8],
  imm8: [OpKind.Immediate8, 8, 8],
  imm8_const_1: [OpKind.Immediate8, 1, 8],
  imm8sex16: [OpKind.Immediate8to16, 8, 16],
  imm8sex32: [OpKind.Immediate8to32, 8, 32],
  imm8sex64: [OpKind.Immediate8to64, 8, 64],
  imm16: [OpKind.Immediate16, 16, 16],
  imm32: [OpKind.Immediate32, 32, 32],
  imm32sex64: [OpKind.Immediate32to64, 32, 64],
  imm64: [OpKind.Immediate64, 64, 64],
}

const STRING_KINDS: Record<string, Readonly<Record<Bits, OpKind>>> = {
  seg_rSI: { 16: OpKind.MemorySegSI, 32: OpKind.MemorySegESI, 64: OpKind.MemorySegRSI },
  seg_rDI: { 16: OpKind.MemorySegDI, 32: OpKind.MemorySegEDI, 64: OpKind.MemorySegRDI },
  es_rDI: { 16: OpKind.MemoryESDI, 32: OpKind.MemoryESEDI, 64: OpKind.MemoryESRDI },
}

const FIXED: Record<string, Register> = {
  al: Register.AL,
  ax: Register.AX,
  eax: Register.EAX,
  rax: Register.RAX,
  dx: Register.DX,
}

/**
 * The value as the operand holds it, or undefined where it does not fit. A value may be written
 * signed or unsigned: 0xffff and -1 are the same 16 bits.
 */
function fitted(kind: string, value: bigint): bigint | undefined {
  const [, stored, size] = IMMEDIATES[kind]!
  if (kind === 'imm8_const_1') return value === 1n ? 1n : undefined
  if (value < -(1n << BigInt(size - 1)) || value >= 1n << BigInt(size)) return undefined
  const signed = BigInt.asIntN(size, value)
  return stored === size || BigInt.asIntN(stored, signed) === signed ? signed : undefined
}

function setImmediate(to: Instruction, i: number, kind: string, value: bigint): boolean {
  const held = fitted(kind, value)
  if (held === undefined) return false
  const second = i > 0 && [OpKind.Immediate8, OpKind.Immediate16].includes(to.opKind(i - 1))
  to.setOpKind(i, second ? OpKind.Immediate8_2nd : IMMEDIATES[kind]![0])
  to.setImmediateI64(i, held)
  return true
}

function setBranch(to: Instruction, i: number, bits: Bits, target: bigint): boolean {
  to.setOpKind(i, NEAR[bits])
  if (bits === 64) to.nearBranch64 = BigInt.asUintN(64, target)
  else if (bits === 32) to.nearBranch32 = Number(BigInt.asUintN(32, target))
  else to.nearBranch16 = Number(BigInt.asUintN(16, target))
  return true
}

function setFar(to: Instruction, kind: string, selector: bigint, offset: bigint): boolean {
  const wide = kind === 'farbr4_2'
  to.setOpKind(0, wide ? OpKind.FarBranch32 : OpKind.FarBranch16)
  if (offset < 0n || offset >> (wide ? 32n : 16n) || selector >> 16n) return false
  to.farBranchSelector = Number(selector)
  if (wide) to.farBranch32 = Number(offset)
  else to.farBranch16 = Number(offset)
  return true
}

const REGISTER_BITS: Record<string, Bits> = { r16: 16, r32: 32, r64: 64 }

function addressBits(memory: MemoryReference, bits: Bits): Bits {
  return REGISTER_BITS[(memory.base ?? memory.index)?.class ?? ''] ?? bits
}

/** A label may move from pass to pass: its displacement has the full size, so that sizes settle. */
function displacementSize(memory: MemoryReference, bits: Bits, kind: string): number {
  const full = bits / 8
  if (kind === 'mem_offs') return full
  if (memory.displacement === undefined) return 0
  if (!memory.base && !memory.index) return full
  return memory.displacement.symbolic ? full : 1
}

function setMemory(
  to: Instruction,
  i: number,
  kind: string,
  memory: MemoryReference,
  place: Place,
) {
  const bits = addressBits(memory, place.bits)
  const relative = memory.relative && place.bits === 64
  const value = memory.displacement?.value(place.resolve) ?? 0n
  const limit = BigInt(bits)
  if (value >= 1n << limit || value < -(1n << (limit - 1n))) return false
  // Code with 64 bits extends the sign of 32.
  const wide = relative || kind === 'mem_offs' || bits !== 64
  const signed = BigInt.asIntN(64, value)
  if (!wide && BigInt.asIntN(32, signed) !== signed) return false
  to.setOpKind(i, OpKind.Memory)
  to.memoryBase = relative ? Register.RIP : (memory.base?.register ?? Register.None)
  to.memoryIndex = memory.index?.register ?? Register.None
  to.memoryIndexScale = memory.scale
  to.memoryDisplSize = relative ? 8 : displacementSize(memory, bits, kind)
  to.memoryDisplacement = BigInt.asUintN(64, value)
  if (memory.segment) to.segmentPrefix = memory.segment.register
  return true
}

function setImplied(to: Instruction, i: number, kind: string, bits: Bits): boolean {
  if (kind in FIXED) {
    to.setOpKind(i, OpKind.Register)
    to.setOpRegister(i, FIXED[kind]!)
  } else if (kind === 'seg_rBX_al') {
    to.setOpKind(i, OpKind.Memory)
    to.memoryBase = { 16: Register.BX, 32: Register.EBX, 64: Register.RBX }[bits]
    to.memoryIndex = Register.AL
  } else {
    to.setOpKind(i, STRING_KINDS[kind]![bits])
  }
  return true
}

function setOperand(
  to: Instruction,
  i: number,
  kind: string,
  operand: Operand | undefined,
  place: Place,
): boolean {
  if (operand === undefined) return setImplied(to, i, kind, place.bits)
  if (operand.mask) to.opMask = operand.mask.register
  if (operand.zeroing) to.zeroingMasking = true
  const evaluate = (expression: Expression) => expression.value(place.resolve)
  switch (operand.kind) {
    case 'register':
      to.setOpKind(i, OpKind.Register)
      to.setOpRegister(i, operand.register.register)
      return true
    case 'memory':
      return setMemory(to, i, kind, operand, place)
    case 'far':
      return setFar(to, kind, evaluate(operand.selector), evaluate(operand.offset))
    default: {
      const value = evaluate(operand.value)
      if (kind in IMMEDIATES) return setImmediate(to, i, kind, value)
      return setBranch(to, i, place.bits, value)
    }
  }
}

const encoders = new Map<Bits, Encoder>()

function encoderOf(bits: Bits): Encoder {
  const encoder = encoders.get(bits) ?? new Encoder(bits)
  encoders.set(bits, encoder)
  return encoder
}

/** The bytes of one encoding, or undefined where a value does not fit. */
function encodeMatch(match: Match, prefixes: Prefixes, place: Place): Uint8Array | undefined {
  const instruction = Instruction.create(match.opcode.code)
  try {
    const { kinds } = match.opcode
    const fits = kinds.every((kind, i) => {
      return setOperand(instruction, i, kind, match.operands[i], place)
    })
    if (!fits) return undefined
    if (prefixes.lock) instruction.hasLockPrefix = true
    if (prefixes.rep) instruction.hasRepPrefix = true
    if (prefixes.repne) instruction.hasRepnePrefix = true
    return encodeInstruction(instruction, place)
  } finally {
    instruction.free()
  }
}

function encodeInstruction(instruction: Instruction, { bits, address }: Place) {
  const encoder = encoderOf(bits)
  try {
    encoder.encode(instruction, address)
    return encoder.takeBuffer()
  } catch {
    // The encoder refuses what this opcode cannot say, such as a high byte with REX.
    encoder.takeBuffer()
    return undefined
  }
}

/**
 * The shortest encoding of at least `atLeast` bytes, or else of any length; undefined where there is
 * none.
 */
export function encode(
  matches: readonly Match[],
  prefixes: Prefixes,
  place: Place,
  atLeast: number,
): Uint8Array | undefined {
  let best: Uint8Array | undefined
  for (const match of matches) {
    const bytes = encodeMatch(match, prefixes, place)
    if (!bytes || bytes.length < atLeast) continue
    if (!best || bytes.length < best.length) best = bytes
  }
  return best
}
