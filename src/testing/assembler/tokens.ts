// Splits the text of one statement into tokens.

import { AssemblyError } from './assembly-error.js'

/** What a statement is made of. */
export type Token =
  | { readonly kind: 'number'; readonly text: string; readonly value: bigint }
  | { readonly kind: 'text'; readonly text: string; readonly bytes: Uint8Array }
  | { readonly kind: 'name' | 'sign'; readonly text: string }

const TOKEN =
  /\s*(?:(?<number>0[xX][\da-fA-F_]+|0[bB][01_]+|\d[\d_]*)(?![\w.$@])|(?<name>[A-Za-z_.$@][\w.$@]*)|(?<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?<sign><<|>>|[[\](){},:+\-*/%&|^~=]))/y

const ESCAPES: Record<string, string> = { n: '\n', r: '\r', t: '\t', 0: '\0' }

function bytesOf(quoted: string): Uint8Array {
  const text = quoted.slice(1, -1).replace(/\\(.)/g, (_, char: string) => ESCAPES[char] ?? char)
  return new TextEncoder().encode(text)
}

/** The tokens of `statement`. Throws {@link AssemblyError} at what is none. */
export function tokensOf(statement: string): Token[] {
  const tokens: Token[] = []
  const text = statement.trimEnd()
  TOKEN.lastIndex = 0
  while (TOKEN.lastIndex < text.length) {
    const at = TOKEN.lastIndex
    const found = TOKEN.exec(text)?.groups
    if (!found) throw new AssemblyError(`cannot read "${text.slice(at).trim()}"`, text)
    const { number, name, quoted, sign } = found
    if (number !== undefined) {
      tokens.push({ kind: 'number', text: number, value: BigInt(number.replaceAll('_', '')) })
    } else if (name !== undefined) {
      tokens.push({ kind: 'name', text: name })
    } else if (quoted !== undefined) {
      tokens.push({ kind: 'text', text: quoted, bytes: bytesOf(quoted) })
    } else {
      tokens.push({ kind: 'sign', text: sign! })
    }
  }
  return tokens
}
