// A cursor over the tokens of one statement.

import { AssemblyError } from './assembly-error.js'
import { type Token, tokensOf } from './tokens.js'

/** Reads the tokens of a statement one after the other. */
export class TokenReader {
  readonly statement: string
  readonly #tokens: readonly Token[]
  #at = 0

  constructor(statement: string) {
    this.statement = statement
    this.#tokens = tokensOf(statement)
  }

  get ended(): boolean {
    return this.#at === this.#tokens.length
  }

  peek(ahead = 0): Token | undefined {
    return this.#tokens[this.#at + ahead]
  }

  next(): Token {
    return this.#tokens[this.#at++] ?? this.fail('more is expected')
  }

  /** Takes the next token if it is this sign, or a name spelled so in any case. */
  take(text: string): boolean {
    const token = this.peek()
    const found =
      (token?.kind === 'sign' && token.text === text) ||
      (token?.kind === 'name' && token.text.toLowerCase() === text)
    if (found) this.#at++
    return found
  }

  expect(sign: string): void {
    if (!this.take(sign)) this.fail(`"${sign}" is expected before ${this.#found()}`)
  }

  expectEnd(): void {
    if (!this.ended) this.fail(`nothing more is expected before ${this.#found()}`)
  }

  #found(): string {
    const token = this.peek()
    return token ? `"${token.text}"` : 'the end'
  }

  fail(problem: string): never {
    throw new AssemblyError(problem, this.statement)
  }
}
