// Guest code as text. The disassembler is a package that users install if they want one; without it
// the bytes have to do.

const LINES = 8

/** Up to eight instructions of `code`, which is at `rip`; a single line of bytes without `iced-x86`. */
export async function disassemble(
  code: Uint8Array,
  rip: bigint,
  bits: 16 | 32 | 64,
): Promise<string[]> {
  if (code.length === 0) return []
  const iced = await import('iced-x86').catch(() => undefined)
  const bytes = Buffer.from(code)
  if (iced === undefined) return [`0x${rip.toString(16)}: ${bytes.toString('hex')}`]
  const { Decoder, DecoderOptions, Formatter, FormatterSyntax } = iced
  const decoder = new Decoder(bits, code, DecoderOptions.None)
  const formatter = new Formatter(FormatterSyntax.Intel)
  decoder.ip = rip
  const lines: string[] = []
  while (decoder.canDecode && lines.length < LINES) {
    const at = decoder.position
    const address = decoder.ip.toString(16)
    const instruction = decoder.decode()
    const hex = bytes.toString('hex', at, decoder.position)
    lines.push(`0x${address}: ${hex.padEnd(20)} ${formatter.format(instruction)}`)
    instruction.free()
  }
  formatter.free()
  decoder.free()
  return lines
}
