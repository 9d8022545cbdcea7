import type { Bits } from './opcodes.js'
import type { Statement } from './statement.js'

interface Line {
  readonly statement: Statement
  readonly address: bigint
  readonly bytes: Uint8Array
}

/** Assembled code with its labels. */
export class Program {
  /** Linear address of the first byte. */
  readonly origin: bigint
  /** Code size at the first byte. */
  readonly bits: Bits
  readonly bytes: Uint8Array
  /** Labels and constants by name. */
  readonly symbols: ReadonlyMap<string, bigint>
  readonly #lines: readonly Line[]

  /** @internal */
  constructor(origin: bigint, bits: Bits, lines: readonly Line[], symbols: Map<string, bigint>) {
    this.origin = origin
    this.bits = bits
    this.symbols = symbols
    this.#lines = lines
    const last = lines.at(-1)
    this.bytes = new Uint8Array(last ? Number(last.address - origin) + last.bytes.length : 0)
    for (const { address, bytes } of lines) this.bytes.set(bytes, Number(address - origin))
  }

  /** The statement whose bytes hold the address, as the source has it. */
  sourceAt(address: bigint): string | undefined {
    return this.#lines.find(
      (line) => address >= line.address && address < line.address + BigInt(line.bytes.length),
    )?.statement.text
  }

  /** Addresses, bytes and source, a statement a line; `mark` gets an arrow. */
  listing(mark?: bigint): string {
    const text = this.#lines.map(({ statement, address, bytes }) => {
      if (statement.kind === 'label') return `${statement.name}:`
      const hex = Buffer.from(bytes).toString('hex')
      const shown = hex.length > 20 ? `${hex.slice(0, 18)}…` : hex
      const arrow = address === mark && bytes.length > 0 ? '>' : ' '
      return `${arrow} ${address.toString(16).padStart(8, '0')}  ${shown.padEnd(20)}  ${statement.text}`
    })
    return text.join('\n')
  }
}
