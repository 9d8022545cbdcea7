// From source to bytes. Branches and labels depend on each other's place, so the source is encoded
// again until nothing moves; a statement never shrinks, which is why that ends.

import { AssemblyError } from './assembly-error.js'
import { encode } from './encode.js'
import type { Resolve } from './expression.js'
import { matchesOf, openSizes } from './match.js'
import type { Bits } from './opcodes.js'
import { Program } from './program.js'
import { readStatements, type Statement } from './statement.js'

/** How {@link assemble} reads a source. */
export interface AssembleOptions {
  /** Code size at the start; `bits 16`, `bits 32` and `bits 64` in the source change it. 64. */
  bits?: Bits
  /** Linear address of the first byte (0). */
  origin?: bigint
  /** Names besides those that the source defines. */
  constants?: Readonly<Record<string, bigint | number>>
}

interface Line {
  readonly statement: Statement
  address: bigint
  bytes: Uint8Array
}

const NOTHING = new Uint8Array(0)
const MAX_PASSES = 100

/** Encodes a statement at its place. */
type Encode = (
  place: { bits: Bits; address: bigint; resolve: Resolve },
  atLeast: number,
) => Uint8Array

/**
 * Assembles a source in Intel's syntax: one statement a line or between `;`, comments behind `//`
 * or `#`; labels (`name:`), constants (`name = value`), `db`, `dw`, `dd`, `dq`, `align n`,
 * `space n` and `bits n`. A label in brackets is reached relative to RIP in 64-bit code, a bare one
 * is its address. Throws {@link AssemblyError}.
 */
export function assemble(source: string, options: AssembleOptions = {}): Program {
  const { bits = 64, origin = 0n, constants = {} } = options
  const statements = readStatements(source)
  const lines = statements.map((statement) => ({ statement, address: origin, bytes: NOTHING }))
  const encoders = prepare(statements, bits)
  const symbols = new Map<string, bigint>()
  for (const [name, value] of Object.entries(constants)) symbols.set(name, BigInt(value))
  checkLabels(statements, symbols)
  let pass = 0
  while (runPass(lines, encoders, origin, bits, symbols, pass)) {
    if (++pass === MAX_PASSES) throw new AssemblyError('the sizes do not settle', source)
  }
  return new Program(origin, bits, lines, symbols)
}

function checkLabels(statements: readonly Statement[], symbols: Map<string, bigint>): void {
  const seen = new Set(symbols.keys())
  for (const statement of statements) {
    if (statement.kind !== 'label' && statement.kind !== 'constant') continue
    const { name, text } = statement
    if (seen.has(name)) throw new AssemblyError(`"${name}" is defined twice`, text)
    seen.add(name)
  }
}

/** One encoder for each statement, with all that does not depend on addresses done. */
function prepare(statements: readonly Statement[], first: Bits): Encode[] {
  let bits = first
  return statements.map((statement) => {
    if (statement.kind === 'bits') bits = statement.bits
    if (statement.kind === 'instruction') return instructionEncoder(statement, bits)
    return (place) => encodeOther(statement, place.address, place.resolve)
  })
}

function instructionEncoder(
  statement: Extract<Statement, { kind: 'instruction' }>,
  bits: Bits,
): Encode {
  const { mnemonic, operands, prefixes, text } = statement
  const matches = matchesOf(mnemonic, operands, bits)
  if (matches.length === 0) {
    throw new AssemblyError(`no ${mnemonic} of ${bits}-bit code takes these operands`, text)
  }
  const sizes = openSizes(mnemonic, matches)
  if (sizes.length > 0) {
    throw new AssemblyError(
      `the size of the memory operand is open: ${sizes.join(', ')} bytes`,
      text,
    )
  }
  return (place, atLeast) => {
    const bytes = encode(matches, prefixes, { ...place, bits }, atLeast)
    if (!bytes) throw new AssemblyError('a value does not fit its operand', text)
    return bytes
  }
}

function encodeOther(statement: Statement, address: bigint, resolve: Resolve): Uint8Array {
  switch (statement.kind) {
    case 'data':
      return encodeData(statement, resolve)
    case 'align': {
      const to = statement.to.value(resolve)
      if (to <= 0n) throw new AssemblyError('an alignment is positive', statement.text)
      // What may be run into is passed over.
      return new Uint8Array(Number((to - (address % to)) % to)).fill(0x90)
    }
    case 'space': {
      const count = statement.count.value(resolve)
      if (count < 0n || count > 1n << 24n) throw new AssemblyError('too large', statement.text)
      return new Uint8Array(Number(count))
    }
    default:
      return NOTHING
  }
}

function encodeData(
  { unit, items, text }: Extract<Statement, { kind: 'data' }>,
  resolve: Resolve,
): Uint8Array {
  const bytes: number[] = []
  for (const { value } of items) {
    if (value instanceof Uint8Array) {
      bytes.push(...value)
      while (bytes.length % unit) bytes.push(0)
      continue
    }
    let rest = value.value(resolve)
    const bits = BigInt(unit * 8)
    if (rest >= 1n << bits || rest < -(1n << (bits - 1n))) {
      throw new AssemblyError('a value does not fit its operand', text)
    }
    rest = BigInt.asUintN(64, rest)
    for (let i = 0; i < unit; i++, rest >>= 8n) bytes.push(Number(rest & 0xffn))
  }
  return Uint8Array.from(bytes)
}

/** Gives every line its place and bytes; true where a label moved or was not known yet. */
function runPass(
  lines: Line[],
  encoders: readonly Encode[],
  origin: bigint,
  bits: Bits,
  symbols: Map<string, bigint>,
  pass: number,
): boolean {
  let address = origin
  let moved = false
  lines.forEach((line, i) => {
    const resolve = resolver(symbols, line.statement, address, pass, () => {
      moved = true
    })
    const { statement } = line
    line.address = address
    if (statement.kind === 'label' || statement.kind === 'constant') {
      const value = statement.kind === 'label' ? address : statement.value.value(resolve)
      if (symbols.get(statement.name) !== value) moved = true
      symbols.set(statement.name, value)
    } else {
      const settles = statement.kind === 'instruction' ? line.bytes.length : 0
      line.bytes = at(statement, () => encoders[i]!({ bits, address, resolve }, settles))
    }
    address += BigInt(line.bytes.length)
  })
  return moved
}

function resolver(
  symbols: Map<string, bigint>,
  statement: Statement,
  address: bigint,
  pass: number,
  guessed: () => void,
): Resolve {
  return (name) => {
    if (name === '$') return address
    const value = symbols.get(name)
    if (value !== undefined) return value
    if (pass > 0) throw new AssemblyError(`"${name}" is not defined`, statement.text)
    guessed()
    return address
  }
}

/** Errors of expressions get the statement. */
function at<T>(statement: Statement, action: () => T): T {
  try {
    return action()
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new AssemblyError(error.message, statement.text)
  }
}
