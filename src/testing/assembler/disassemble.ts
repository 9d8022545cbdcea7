// Code that no source of the test's describes.

import { Decoder, DecoderOptions, Formatter, FormatterSyntax } from 'iced-x86'
import type { Bits } from './opcodes.js'

const LINES = 6

/** A few instructions of `bytes`, which lie at `address`, a line each; the first gets an arrow. */
export function disassemble(bytes: Uint8Array, address: bigint, bits: Bits): string[] {
  const decoder = new Decoder(bits, bytes, DecoderOptions.None)
  const formatter = new Formatter(FormatterSyntax.Intel)
  decoder.ip = address
  const lines: string[] = []
  while (decoder.canDecode && lines.length < LINES) {
    const at = decoder.ip.toString(16).padStart(8, '0')
    const start = decoder.position
    const instruction = decoder.decode()
    const hex = Buffer.from(bytes.subarray(start, decoder.position)).toString('hex')
    const arrow = lines.length === 0 ? '>' : ' '
    lines.push(`${arrow} ${at}  ${hex.padEnd(20)}  ${formatter.format(instruction)}`)
    instruction.free()
  }
  formatter.free()
  decoder.free()
  return lines
}
