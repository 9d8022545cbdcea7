// @ts-check
// Takes the ELF kernel out of a bzImage. Emulated machines boot it directly: decompressing in the guest
// costs seconds, and the ELF has the PVH entry.
import { execFileSync } from 'node:child_process'

const ELF_MAGIC = Buffer.from('\x7fELF', 'latin1')
const XZ_MAGIC = Buffer.from('\xfd7zXZ\0', 'latin1')
const LZ4_LEGACY_MAGIC = Buffer.from([0x02, 0x21, 0x4c, 0x18])
const LZ4_LEGACY_BLOCK = 8 << 20

/**
 * A length is 15 in the token and continued by bytes until one is not 255.
 *
 * @param {Buffer} input
 * @param {{ at: number }} cursor
 * @param {number} nibble
 */
function readLength(input, cursor, nibble) {
  if (nibble !== 15) return nibble
  let length = nibble
  for (;;) {
    const byte = input.readUInt8(cursor.at++)
    length += byte
    if (byte !== 255) return length
  }
}

/**
 * Decodes one LZ4 block (lz4_Block_format.md: token, literals, 16-bit offset, match).
 *
 * @param {Buffer} input
 * @returns {Buffer}
 */
function decodeLz4Block(input) {
  const output = Buffer.alloc(LZ4_LEGACY_BLOCK)
  const cursor = { at: 0 }
  let end = 0
  while (cursor.at < input.length) {
    const token = input.readUInt8(cursor.at++)
    const literals = readLength(input, cursor, token >> 4)
    if (input.copy(output, end, cursor.at, cursor.at + literals) !== literals)
      throw new Error('bad LZ4 block')
    end += literals
    cursor.at += literals
    if (cursor.at >= input.length) break
    const offset = input.readUInt16LE(cursor.at)
    cursor.at += 2
    const matchEnd = end + readLength(input, cursor, token & 15) + 4
    if (offset === 0 || offset > end || matchEnd > output.length) throw new Error('bad LZ4 block')
    // ORDER: byte by byte, forwards: a match may overlap what it produces.
    for (; end < matchEnd; end++) output[end] = /** @type {number} */ (output[end - offset])
  }
  return output.subarray(0, end)
}

/**
 * Decodes the "legacy" LZ4 frame that kernels are packed in: blocks of 8 MiB, each with its packed size.
 *
 * @param {Buffer} payload
 */
function decodeLz4(payload) {
  const blocks = []
  // ORDER: the payload's last four bytes are the unpacked size that the kernel's build appends, not a block.
  for (let at = LZ4_LEGACY_MAGIC.length; at < payload.length - 4; ) {
    const size = payload.readUInt32LE(at)
    blocks.push(decodeLz4Block(payload.subarray(at + 4, at + 4 + size)))
    at += 4 + size
  }
  return Buffer.concat(blocks)
}

/** @param {Buffer} payload */
function decodePayload(payload) {
  /** @param {Buffer} magic */
  const startsWith = (magic) => payload.subarray(0, magic.length).equals(magic)
  if (startsWith(ELF_MAGIC)) return payload
  if (startsWith(LZ4_LEGACY_MAGIC)) return decodeLz4(payload)
  if (startsWith(XZ_MAGIC))
    return execFileSync('xz', ['-dc', '--single-stream'], { input: payload, maxBuffer: 1 << 30 })
  throw new Error(`unknown kernel compression, starts with ${payload.toString('hex', 0, 6)}`)
}

/**
 * Gives the ELF kernel of a bzImage (x86 boot protocol 2.08: `payload_offset`, `payload_length`, counted
 * from the protected-mode code).
 *
 * @param {Buffer} bzImage
 * @returns {Buffer}
 * @throws {Error} when the compression is neither none, LZ4 nor XZ
 */
export function extractVmlinux(bzImage) {
  const setupSectors = bzImage.readUInt8(0x1f1)
  const start = (setupSectors + 1) * 512 + bzImage.readUInt32LE(0x248)
  const payload = bzImage.subarray(start, start + bzImage.readUInt32LE(0x24c))
  const kernel = decodePayload(payload)
  if (!kernel.subarray(0, 4).equals(ELF_MAGIC)) throw new Error('the bzImage holds no ELF kernel')
  return kernel
}
