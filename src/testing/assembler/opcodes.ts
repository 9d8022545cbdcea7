// The opcodes that a mnemonic stands for, as iced-x86's tables have them.

import { Code, CodeExt, MemorySizeExt, Mnemonic, OpCodeOperandKind } from 'iced-x86'

/** Code sizes. */
export type Bits = 16 | 32 | 64

const BITS = [16, 32, 64] as const

/** One encoding of a mnemonic. */
export interface Opcode {
  readonly code: Code
  /** Names of the kinds of its operands. */
  readonly kinds: readonly string[]
  /** Of its memory operand, in bytes; 0 where the size is no matter. */
  readonly memorySize: number
  readonly bits: readonly Bits[]
}

/** Other spellings of conditions. */
const CONDITIONS: Record<string, string> = {
  z: 'e',
  nz: 'ne',
  c: 'b',
  nc: 'ae',
  nae: 'b',
  nb: 'ae',
  na: 'be',
  nbe: 'a',
  nge: 'l',
  nl: 'ge',
  ng: 'le',
  nle: 'g',
  pe: 'p',
  po: 'np',
}

const ALIASES: Record<string, string> = {
  movabs: 'mov',
  icebp: 'int1',
  xlat: 'xlatb',
  fwait: 'wait',
}

/** Mnemonics that choose the operand size of an instruction which has one for each code size. */
const SIZED: Record<string, readonly string[]> = {
  iretw: ['Iretw'],
  retfw: ['Retfw', 'Retfw_imm16'],
  retfd: ['Retfd', 'Retfd_imm16'],
  retfq: ['Retfq', 'Retfq_imm16'],
  pushfw: ['Pushfw'],
  popfw: ['Popfw'],
}

/** What a mnemonic without a size means in code of each size. */
const BY_BITS: Record<string, Readonly<Record<Bits, string>>> = {
  iret: { 16: 'Iretw', 32: 'Iretd', 64: 'Iretd' },
  pushf: { 16: 'Pushfw', 32: 'Pushfd', 64: 'Pushfq' },
  popf: { 16: 'Popfw', 32: 'Popfd', 64: 'Popfq' },
  retf: { 16: 'Retfw', 32: 'Retfd', 64: 'Retfd' },
  pusha: { 16: 'Pushaw', 32: 'Pushad', 64: '' },
  popa: { 16: 'Popaw', 32: 'Popad', 64: '' },
}

/** All opcodes by mnemonic; made at the first use. */
let table: ReadonlyMap<string, readonly Opcode[]> | undefined
const byCode = new Map<Code, Opcode>()

function readTable(): ReadonlyMap<string, readonly Opcode[]> {
  const byMnemonic = new Map<string, Opcode[]>()
  for (const code of Object.values(Code)) {
    if (typeof code !== 'number') continue
    const info = CodeExt.opCode(code)
    const opcode = {
      code,
      kinds: Array.from({ length: info.opCount }, (_, i) => OpCodeOperandKind[info.opKind(i)]!),
      memorySize: MemorySizeExt.size(info.memorySize),
      // What a decoder must be told to know is of processors of the past.
      bits:
        info.isInstruction && info.decoderOption === 0
          ? BITS.filter((bits) => info.isAvailableInMode(bits))
          : [],
    }
    const mnemonic = Mnemonic[info.mnemonic]!.toLowerCase()
    info.free()
    byCode.set(code, opcode)
    const others = byMnemonic.get(mnemonic)
    if (others) others.push(opcode)
    else byMnemonic.set(mnemonic, [opcode])
  }
  return byMnemonic
}

/** The opcodes of a mnemonic in lower case; none where it is not one. */
export function opcodesOf(mnemonic: string, bits: Bits): Opcode[] {
  table ??= readTable()
  const condition = /^(j|set|cmov)([a-z]+)$/.exec(mnemonic)
  const other = condition && CONDITIONS[condition[2]!]
  const name = ALIASES[mnemonic] ?? (other ? `${condition[1]}${other}` : mnemonic)
  const natural = BY_BITS[name]?.[bits]
  const codes = SIZED[name] ?? (natural && [natural, `${natural}_imm16`])
  const found = codes ? codes.flatMap(opcodeNamed) : (table.get(name) ?? [])
  return found.filter((each) => each.bits.includes(bits))
}

function opcodeNamed(name: string): Opcode[] {
  const opcode = byCode.get(Code[name as keyof typeof Code])
  return opcode ? [opcode] : []
}

/** Whether any code size has that mnemonic. */
export function isMnemonic(mnemonic: string): boolean {
  return BITS.some((bits) => opcodesOf(mnemonic, bits).length > 0)
}
