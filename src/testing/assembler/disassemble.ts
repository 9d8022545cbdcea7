// Code that no source of the test's describes.

import { Decoder, DecoderOptions, Formatter, FormatterSyntax } from 'iced-x86'
import type { Bits } from './opcodes.js'
import { type Line, lineText } from './program.js'

/** The instructions of `bytes`, which lie at `address`: at most so many. */
export function decodeLines(
  bytes: Uint8Array,
  address: bigint,
  bits: Bits,
  most = Number.POSITIVE_INFINITY,
): Line[] {
  const decoder = new Decoder(bits, bytes, DecoderOptions.None)
  const formatter = new Formatter(FormatterSyntax.Intel)
  decoder.ip = address
  const lines: Line[] = []
  while (decoder.canDecode && lines.length < most) {
    const at = decoder.ip
    const start = decoder.position
    const instruction = decoder.decode()
    const text = formatter.format(instruction)
    instruction.free()
    const statement = { kind: 'data', unit: 1, items: [], text } as const
    lines.push({ statement, address: at, bytes: bytes.subarray(start, decoder.position) })
  }
  formatter.free()
  decoder.free()
  return lines
}

const SHOWN = 6

/** A few instructions as text; the first gets an arrow. */
export function disassemble(bytes: Uint8Array, address: bigint, bits: Bits): string[] {
  return decodeLines(bytes, address, bits, SHOWN).map((line, i) => lineText(line, i === 0))
}
