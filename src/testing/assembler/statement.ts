// The statements of a source: labels, constants, directives and instructions.

import type { Prefixes } from './encode.js'
import { type Expression, readExpression } from './expression.js'
import { isMnemonic } from './opcodes.js'
import { type Operand, readOperand } from './operand.js'
import { TokenReader } from './token-reader.js'

interface DataItem {
  readonly value: Expression | Uint8Array
}

/** What a source is made of. */
export type Statement = { readonly text: string } & (
  | { readonly kind: 'label'; readonly name: string }
  | { readonly kind: 'constant'; readonly name: string; readonly value: Expression }
  | { readonly kind: 'bits'; readonly bits: 16 | 32 | 64 }
  | { readonly kind: 'align'; readonly to: Expression }
  | { readonly kind: 'space'; readonly count: Expression }
  | { readonly kind: 'mark'; readonly number: number }
  | { readonly kind: 'data'; readonly unit: number; readonly items: readonly DataItem[] }
  | {
      readonly kind: 'instruction'
      readonly mnemonic: string
      readonly prefixes: Prefixes
      readonly operands: readonly Operand[]
    }
)

const DATA: Record<string, number> = { db: 1, dw: 2, dd: 4, dq: 8 }
const PREFIXES: Record<string, keyof Prefixes> = {
  lock: 'lock',
  rep: 'rep',
  repe: 'rep',
  repz: 'rep',
  repne: 'repne',
  repnz: 'repne',
}

/** Comments go to the end of the line; a `;` ends a statement. */
const PIECE = /\/\/.*|#.*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[;\n]|[^;\n"'#/]+|./g

/** Labels before an instruction, which have lines of their own in listings. */
const LABELS = /^\s*(?:[\w.$@]+\s*:\s*)+/

function splitStatements(source: string): string[] {
  const statements = ['']
  for (const [piece] of source.matchAll(PIECE)) {
    if (piece === ';' || piece === '\n') statements.push('')
    else if (!piece.startsWith('//') && !piece.startsWith('#')) {
      statements[statements.length - 1] += piece
    }
  }
  return statements.filter((statement) => statement.trim() !== '')
}

/** Reads a whole source. */
export function readStatements(source: string): Statement[] {
  return splitStatements(source).flatMap((text) => {
    const reader = new TokenReader(text)
    const statements: Statement[] = []
    while (reader.peek()?.kind === 'name' && reader.peek(1)?.text === ':') {
      statements.push({ kind: 'label', name: reader.next().text, text })
      reader.next()
    }
    const rest = statements.length > 0 ? text.replace(LABELS, '') : text
    if (!reader.ended) statements.push(readStatement(reader, rest.trim()))
    reader.expectEnd()
    return statements
  })
}

function readStatement(reader: TokenReader, text: string): Statement {
  const first = reader.next()
  if (first.kind !== 'name') reader.fail(`an instruction is expected before "${first.text}"`)
  const word = first.text.toLowerCase()
  if (reader.take('=') || reader.take('equ')) {
    return { kind: 'constant', name: first.text, value: readExpression(reader), text }
  }
  if (DATA[word]) return { kind: 'data', unit: DATA[word], items: readData(reader), text }
  if (word === 'align') return { kind: 'align', to: readExpression(reader), text }
  if (word === 'space') return { kind: 'space', count: readExpression(reader), text }
  if (word === 'mark') return { kind: 'mark', number: Number(reader.next().text), text }
  if (word === 'bits') return { kind: 'bits', bits: readBits(reader), text }
  return readInstruction(reader, word, text)
}

function readBits(reader: TokenReader): 16 | 32 | 64 {
  const bits = Number(reader.next().text)
  return bits === 16 || bits === 32 || bits === 64 ? bits : reader.fail('bits are 16, 32 or 64')
}

function readData(reader: TokenReader): DataItem[] {
  const items: DataItem[] = []
  do {
    const token = reader.peek()
    if (token?.kind === 'text') items.push({ value: token.bytes })
    if (token?.kind === 'text') reader.next()
    else items.push({ value: readExpression(reader) })
  } while (reader.take(','))
  return items
}

function readInstruction(reader: TokenReader, first: string, text: string): Statement {
  const prefixes = { lock: false, rep: false, repne: false }
  let mnemonic = first
  while (PREFIXES[mnemonic]) {
    prefixes[PREFIXES[mnemonic]!] = true
    mnemonic = reader.next().text.toLowerCase()
  }
  if (!isMnemonic(mnemonic)) reader.fail(`"${mnemonic}" is no instruction`)
  const operands: Operand[] = []
  if (!reader.ended) {
    do operands.push(readOperand(reader))
    while (reader.take(','))
  }
  return { kind: 'instruction', mnemonic, prefixes, operands, text }
}
