import type { Bits } from './opcodes.js'
import type { Statement } from './statement.js'

/** A statement at its place. */
export interface Line {
  readonly statement: Statement
  readonly address: bigint
  readonly bytes: Uint8Array
}

/** Lines of a listing before and behind the place that matters. */
const AROUND = 20

/** Assembled code with its labels. */
export class Program {
  /** Linear address of the first byte. */
  readonly origin: bigint
  /** Code size at the first byte. */
  readonly bits: Bits
  readonly bytes: Uint8Array
  /** Labels and constants by name. */
  readonly symbols: ReadonlyMap<string, bigint>
  /** @internal Where the marks are, by number: a piece of source may stand at several places. */
  readonly marks: ReadonlyMap<number, readonly bigint[]>
  readonly #lines: readonly Line[]

  /** @internal */
  constructor(origin: bigint, bits: Bits, lines: readonly Line[], symbols: Map<string, bigint>) {
    this.origin = origin
    this.bits = bits
    this.symbols = symbols
    this.#lines = lines
    const last = lines.at(-1)
    this.bytes = new Uint8Array(last ? Number(last.address - origin) + last.bytes.length : 0)
    const marks = new Map<number, bigint[]>()
    for (const { statement, address, bytes } of lines) {
      this.bytes.set(bytes, Number(address - origin))
      if (statement.kind !== 'mark') continue
      const { number } = statement
      marks.set(number, [...(marks.get(number) ?? []), address])
    }
    this.marks = marks
  }

  /** The statement whose bytes hold the address, as the source has it. */
  sourceAt(address: bigint): string | undefined {
    return this.#lines.find(
      (line) => address >= line.address && address < line.address + BigInt(line.bytes.length),
    )?.statement.text
  }

  /**
   * Addresses, bytes and source, a statement a line; `mark` gets an arrow. Of long code only what is
   * around it.
   */
  listing(mark?: bigint): string {
    const lines = this.#lines.filter(({ statement }) => statement.kind !== 'mark')
    const marked = lines.findIndex(({ address, bytes }) => address === mark && bytes.length > 0)
    const first = Math.min(Math.max(0, marked - AROUND), Math.max(0, lines.length - 2 * AROUND))
    const shown = lines.slice(first, first + 2 * AROUND).map((line, i) => {
      return lineText(line, first + i === marked)
    })
    const before = first > 0 ? ['…'] : []
    const behind = first + 2 * AROUND < lines.length ? ['…'] : []
    return [...before, ...shown, ...behind].join('\n')
  }
}

/** A line of a listing. */
export function lineText({ statement, address, bytes }: Line, isMarked: boolean): string {
  if (statement.kind === 'label') return `${statement.name}:`
  const hex = Buffer.from(bytes).toString('hex')
  const shown = hex.length > 20 ? `${hex.slice(0, 18)}…` : hex
  const arrow = isMarked ? '>' : ' '
  return `${arrow} ${address.toString(16).padStart(8, '0')}  ${shown.padEnd(20)}  ${statement.text}`
}
