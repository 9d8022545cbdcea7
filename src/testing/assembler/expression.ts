// Constant expressions over numbers, labels and constants, with C's operators and precedences.

import type { TokenReader } from './token-reader.js'

/** Gives the value of a name: a label's address, or a constant. */
export type Resolve = (name: string) => bigint

/** An expression that waits for the addresses of labels. */
export interface Expression {
  value(resolve: Resolve): bigint
  /** Whether its value may change from pass to pass. */
  readonly symbolic: boolean
}

type Operation = (a: bigint, b: bigint) => bigint

/** Binary operators, the loosest first. */
const LEVELS: readonly Readonly<Record<string, Operation>>[] = [
  { '|': (a, b) => a | b },
  { '^': (a, b) => a ^ b },
  { '&': (a, b) => a & b },
  { '<<': (a, b) => a << b, '>>': (a, b) => a >> b },
  { '+': (a, b) => a + b, '-': (a, b) => a - b },
  { '*': (a, b) => a * b, '/': divide, '%': (a, b) => a - divide(a, b) * b },
]

/** The level of `*`, for the terms of an address. */
export const PRODUCT = LEVELS.length - 1

function divide(a: bigint, b: bigint): bigint {
  if (b === 0n) throw new RangeError('division by zero')
  return a / b
}

export const constant = (value: bigint): Expression => ({ value: () => value, symbolic: false })

export function add(a: Expression, b: Expression, operation: Operation = (x, y) => x + y) {
  return {
    value: (resolve: Resolve) => operation(a.value(resolve), b.value(resolve)),
    symbolic: a.symbolic || b.symbolic,
  }
}

export function negated(a: Expression): Expression {
  return { value: (resolve) => -a.value(resolve), symbolic: a.symbolic }
}

/** Reads an expression; `level` leaves looser operators to the caller. */
export function readExpression(reader: TokenReader, level = 0): Expression {
  const operations = LEVELS[level]
  if (operations === undefined) return readUnary(reader)
  let left = readExpression(reader, level + 1)
  for (;;) {
    const token = reader.peek()
    const operation = token?.kind === 'sign' ? operations[token.text] : undefined
    if (operation === undefined) return left
    reader.next()
    left = add(left, readExpression(reader, level + 1), operation)
  }
}

function readUnary(reader: TokenReader): Expression {
  if (reader.take('-')) return negated(readUnary(reader))
  if (reader.take('+')) return readUnary(reader)
  if (reader.take('~')) return add(readUnary(reader), constant(0n), (a) => ~a)
  if (reader.take('(')) {
    const inner = readExpression(reader)
    reader.expect(')')
    return inner
  }
  const token = reader.next()
  if (token.kind === 'number') return constant(token.value)
  if (token.kind === 'text') return constant(littleEndian(token.bytes))
  if (token.kind === 'sign') return reader.fail(`a value is expected before "${token.text}"`)
  return { value: (resolve) => resolve(token.text), symbolic: true }
}

function littleEndian(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n)
}
