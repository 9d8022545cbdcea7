// @ts-check
// Writes the "newc" cpio format that Linux unpacks as its initramfs, straight from memory. /dev/console
// needs no member: the kernel's built-in initramfs has it.

/** File type bits of `st_mode` (POSIX `sys/stat.h`). */
const TYPE = { directory: 0o040000, file: 0o100000, link: 0o120000 }

/**
 * One member of an initramfs. Paths have no leading slash; the directories above a path are added.
 *
 * @typedef {{ path: string, mode?: number, data: Uint8Array | string }} CpioFile
 * @typedef {{ path: string, target: string }} CpioLink
 * @typedef {{ path: string, mode?: number, directory: true }} CpioDirectory
 * @typedef {CpioFile | CpioLink | CpioDirectory} CpioEntry
 */

/** @param {number} length */
const padding = (length) => Buffer.alloc((4 - (length % 4)) % 4)

/**
 * @param {string} path
 * @param {{ ino: number, mode: number, data?: Uint8Array }} member
 */
function encodeMember(path, { ino, mode, data = new Uint8Array() }) {
  const name = Buffer.from(`${path}\0`)
  const fields = [ino, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length, 0]
  const hex = fields.map((field) => field.toString(16).padStart(8, '0')).join('')
  const header = Buffer.concat([Buffer.from(`070701${hex}`), name])
  return [header, padding(header.length), data, padding(data.length)]
}

/** @param {CpioEntry} entry */
function describeEntry(entry) {
  if ('data' in entry)
    return { mode: TYPE.file | (entry.mode ?? 0o644), data: Buffer.from(entry.data) }
  if ('target' in entry) return { mode: TYPE.link | 0o777, data: Buffer.from(entry.target) }
  return { mode: TYPE.directory | (entry.mode ?? 0o755) }
}

/** @param {string} path */
function parentsOf(path) {
  const parts = path.split('/').slice(0, -1)
  return parts.map((_, index) => parts.slice(0, index + 1).join('/'))
}

/**
 * Encodes an archive in the newc format (kernel: Documentation/driver-api/early-userspace/buffer-format).
 * Members are owned by root and dated 1970, so equal entries give equal bytes.
 *
 * @param {CpioEntry[]} entries
 * @returns {Buffer}
 */
export function encodeCpio(entries) {
  const seen = new Set(entries.map((entry) => entry.path))
  const chunks = []
  let ino = 1
  for (const entry of entries) {
    for (const parent of parentsOf(entry.path)) {
      if (seen.has(parent)) continue
      seen.add(parent)
      chunks.push(...encodeMember(parent, { ino: ino++, mode: TYPE.directory | 0o755 }))
    }
    chunks.push(...encodeMember(entry.path, { ino: ino++, ...describeEntry(entry) }))
  }
  chunks.push(...encodeMember('TRAILER!!!', { ino: 0, mode: 0 }))
  return Buffer.concat(chunks)
}
