// The operands of an instruction in Intel's syntax.

import { add, constant, type Expression, negated, PRODUCT, readExpression } from './expression.js'
import { type NamedRegister, registerNamed } from './registers.js'
import type { TokenReader } from './token-reader.js'

/** `[base + index*scale + displacement]`, with a segment override. */
export interface MemoryReference {
  readonly kind: 'memory'
  /** In bytes, where the source says it. */
  readonly size: number | undefined
  readonly far: boolean
  readonly segment: NamedRegister | undefined
  readonly base: NamedRegister | undefined
  readonly index: NamedRegister | undefined
  readonly scale: number
  readonly displacement: Expression | undefined
  /** A label alone, or `rel`: 64-bit code reaches it relative to RIP. `abs` says no. */
  readonly relative: boolean
}

/** What stands between the commas. */
export type Operand = (
  | { readonly kind: 'register'; readonly register: NamedRegister }
  | { readonly kind: 'value'; readonly value: Expression; readonly size: number | undefined }
  | {
      readonly kind: 'far'
      readonly selector: Expression
      readonly offset: Expression
      readonly size: number | undefined
    }
  | MemoryReference
) & { mask?: NamedRegister; zeroing?: boolean }

const SIZES: Record<string, number> = {
  byte: 1,
  word: 2,
  dword: 4,
  fword: 6,
  qword: 8,
  tbyte: 10,
  tword: 10,
  oword: 16,
  xmmword: 16,
  ymmword: 32,
  zmmword: 64,
}

/** Reads an operand. */
export function readOperand(reader: TokenReader): Operand {
  const operand = readPlainOperand(reader)
  while (reader.take('{')) {
    const name = reader.next().text
    if (name === 'z') operand.zeroing = true
    else operand.mask = registerNamed(name) ?? reader.fail(`"{${name}}" is not known`)
    reader.expect('}')
  }
  return operand
}

function readPlainOperand(reader: TokenReader): Operand {
  let size: number | undefined
  let far = false
  for (;;) {
    const token = reader.peek()
    const word = token?.kind === 'name' ? token.text.toLowerCase() : ''
    if (SIZES[word] !== undefined) size = SIZES[word]
    else if (word === 'far') far = true
    else if (word !== 'ptr' && word !== 'short' && word !== 'near' && word !== 'offset') break
    reader.next()
  }
  const register = readRegister(reader)
  if (register?.class === 'seg' && reader.take(':')) return readMemory(reader, size, far, register)
  if (register !== undefined) return { kind: 'register', register }
  if (reader.peek()?.text === '[') return readMemory(reader, size, far, undefined)
  const value = readExpression(reader)
  if (!reader.take(':')) return { kind: 'value', value, size }
  return { kind: 'far', selector: value, offset: readExpression(reader), size }
}

function readRegister(reader: TokenReader): NamedRegister | undefined {
  const token = reader.peek()
  const register = token?.kind === 'name' ? registerNamed(token.text) : undefined
  if (register === undefined) return undefined
  reader.next()
  if (token!.text.toLowerCase() !== 'st' || !reader.take('(')) return register
  const numbered = registerNamed(`st${reader.next().text}`)
  reader.expect(')')
  return numbered ?? reader.fail('st(0) to st(7) are expected')
}

function readMemory(
  reader: TokenReader,
  size: number | undefined,
  far: boolean,
  override: NamedRegister | undefined,
): MemoryReference {
  reader.expect('[')
  let segment = override
  const first = reader.peek()
  if (first?.kind === 'name' && reader.peek(1)?.text === ':') {
    segment = readRegister(reader)
    if (segment?.class !== 'seg') reader.fail(`"${first.text}" is no segment register`)
    reader.expect(':')
  }
  // NASM's word for a 64-bit address; MOV to and from the accumulator has one anyway.
  reader.take('qword')
  const absolute = reader.take('abs')
  const explicit = reader.take('rel')
  const { base, index, scale, displacement } = readAddress(reader)
  reader.expect(']')
  const label = explicit || displacement?.symbolic === true
  const relative = label && !absolute && !base && !index
  return { kind: 'memory', size, far, segment, base, index, scale, displacement, relative }
}

type Address = Pick<MemoryReference, 'base' | 'index' | 'scale' | 'displacement'>

function readAddress(reader: TokenReader): Address {
  let base: NamedRegister | undefined
  let index: NamedRegister | undefined
  let scale = 1
  let displacement: Expression | undefined
  const addIndex = (register: NamedRegister, factor: number) => {
    if (index !== undefined) reader.fail('an address has one base and one index')
    index = register
    scale = factor
  }
  let minus = reader.take('-')
  for (;;) {
    const factor = readFactor(reader)
    const register = readRegister(reader)
    if (register === undefined) {
      const term = readExpression(reader, PRODUCT)
      const signed = minus ? negated(term) : term
      displacement = displacement ? add(displacement, signed) : signed
    } else if (minus) {
      reader.fail('a register cannot be subtracted')
    } else if (factor !== undefined || reader.take('*')) {
      addIndex(
        register,
        factor ?? Number(readExpression(reader, PRODUCT + 1).value(noName(reader))),
      )
    } else if (base === undefined) {
      base = register
    } else {
      addIndex(register, 1)
    }
    minus = reader.take('-')
    if (!minus && !reader.take('+')) break
  }
  if (![1, 2, 4, 8].includes(scale)) reader.fail('a scale is 1, 2, 4 or 8')
  // Only an index may not be the stack pointer, and without a scale the two can change places.
  if (index && scale === 1 && /^[er]sp$/.test(index.name)) [base, index] = [index, base]
  if (!base && !index && !displacement) displacement = constant(0n)
  return { base, index, scale, displacement }
}

/** The scale written before its register, as in `4*rax`. */
function readFactor(reader: TokenReader): number | undefined {
  const [number, times, name] = [reader.peek(), reader.peek(1), reader.peek(2)]
  if (number?.kind !== 'number' || times?.text !== '*') return undefined
  if (name?.kind !== 'name' || !registerNamed(name.text)) return undefined
  reader.next()
  reader.next()
  return Number(number.value)
}

function noName(reader: TokenReader) {
  return (name: string): bigint => reader.fail(`"${name}" is not known here`)
}
