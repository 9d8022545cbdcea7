// JSON with the line of every value, so that a complaint about a file can say where.

/** What is wrong with a file that a person wrote. */
export class FileError extends Error {
  readonly code = 'ERR_KVM_CONFIG'

  /** `line` counts from 1; 0 for what is no file, but an option of the command line. */
  constructor(file: string, line: number, complaint: string) {
    super(line === 0 ? `${file}: ${complaint}` : `${file}:${line}: ${complaint}`)
  }
}

/** A value and where it begins. Lists and objects hold values of the same kind. */
export interface Located {
  readonly line: number
  readonly value: string | number | boolean | null | readonly Located[] | LocatedObject
}

/** An object of the file, by key. */
export type LocatedObject = ReadonlyMap<string, Located>

const SPACE = /[ \t\r\n]*/y
const NUMBER = /-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y
const STRING = /"([^"\\\n]|\\.)*"/y
const WORDS = new Map([
  ['true', true],
  ['false', false],
  ['null', null],
] as const)
const DEPTH = 64

/**
 * Parses JSON (RFC 8259). A key that comes twice is an error, as one of the two would be ignored.
 *
 * @throws FileError with the line
 */
export function parseLocated(file: string, text: string): Located {
  return new Parser(file, text).parse()
}

class Parser {
  readonly #file: string
  readonly #text: string
  #at = 0
  #depth = 0

  constructor(file: string, text: string) {
    this.#file = file
    this.#text = text
  }

  parse(): Located {
    const value = this.#value()
    this.#match(SPACE)
    if (this.#at < this.#text.length) throw this.#error('expected the end of the file')
    return value
  }

  #value(): Located {
    this.#match(SPACE)
    const line = this.#line()
    switch (this.#text[this.#at]) {
      case '{':
        return { line, value: this.#object() }
      case '[':
        return { line, value: this.#list() }
      case '"':
        return { line, value: this.#string() }
    }
    for (const [word, value] of WORDS) {
      if (!this.#text.startsWith(word, this.#at)) continue
      this.#at += word.length
      return { line, value }
    }
    const number = this.#match(NUMBER)
    if (number !== undefined) return { line, value: Number(number) }
    throw this.#error('expected a value')
  }

  #object(): LocatedObject {
    const entries = new Map<string, Located>()
    this.#items('}', () => {
      this.#match(SPACE)
      if (this.#text[this.#at] !== '"') throw this.#error('expected a key in quotes')
      const key = this.#string()
      if (entries.has(key)) throw this.#error(`the key "${key}" is there twice`)
      this.#match(SPACE)
      if (this.#text[this.#at] !== ':') throw this.#error(`expected ':' behind "${key}"`)
      this.#at++
      entries.set(key, this.#value())
    })
    return entries
  }

  #list(): Located[] {
    const values: Located[] = []
    this.#items(']', () => values.push(this.#value()))
    return values
  }

  /** Items with commas between them, from the opening bracket to the closing one. */
  #items(end: string, item: () => void): void {
    if (++this.#depth > DEPTH) throw this.#error('nested too deeply')
    this.#at++
    this.#match(SPACE)
    for (let first = true; this.#text[this.#at] !== end; first = false) {
      if (!first && this.#text[this.#at] !== ',') throw this.#error(`expected ',' or '${end}'`)
      if (!first) this.#at++
      item()
      this.#match(SPACE)
    }
    this.#at++
    this.#depth--
  }

  #string(): string {
    const text = this.#match(STRING)
    if (text === undefined) throw this.#error('a string that does not end')
    try {
      return JSON.parse(text) as string
    } catch {
      throw this.#error(`a bad escape or character in ${text}`)
    }
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.#text)?.[0]
    if (found !== undefined) this.#at += found.length
    return found
  }

  #line(): number {
    return this.#text.slice(0, this.#at).split('\n').length
  }

  #error(complaint: string): FileError {
    return new FileError(this.#file, this.#line(), complaint)
  }
}
