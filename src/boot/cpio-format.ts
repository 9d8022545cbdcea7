// The "newc" cpio format, the form of a Linux initramfs (kernel documentation, "initramfs buffer
// format"): what an archive can hold and how a record's header is laid out.

interface CpioCommon {
  /** Path in the archive, without a leading slash: `bin/sh`. */
  readonly path: string
  /** Permission bits, 0 to 0o7777; default 0o755 for directories, 0o777 for links, 0o644 else. */
  readonly mode?: number | undefined
  /** Owner; default 0. */
  readonly uid?: number | undefined
  /** Group; default 0. */
  readonly gid?: number | undefined
  /** Modification time in seconds since 1970; default 0, so that archives are reproducible. */
  readonly mtime?: number | undefined
}

/** What an initramfs can hold. `target` of a symbolic link is stored as it is. */
export type CpioEntry =
  | (CpioCommon & { readonly type: 'file'; readonly data: Uint8Array })
  | (CpioCommon & { readonly type: 'directory' | 'fifo' })
  | (CpioCommon & { readonly type: 'symlink'; readonly target: string })
  | (CpioCommon & {
      readonly type: 'character-device' | 'block-device'
      readonly major: number
      readonly minor: number
    })

/** Magic of a newc record. */
export const CPIO_MAGIC = '070701'
/** Bytes in a record's header: the magic and {@link CPIO_FIELDS}. */
export const CPIO_HEADER_SIZE = 110
/** Hexadecimal digits in one header field. */
export const CPIO_FIELD_DIGITS = 8
/** Name of the record that ends an archive. */
export const CPIO_TRAILER = 'TRAILER!!!'
/** Linux refuses names and link targets beyond this, the terminating zero included (PATH_MAX). */
export const CPIO_MAX_PATH_BYTES = 4096
/** The permission bits of a mode; the file type is above them. */
export const CPIO_MODE_BITS = 0o7777

/** Header fields in their order in the file, eight hexadecimal digits each. */
export const CPIO_FIELDS = [
  'ino',
  'mode',
  'uid',
  'gid',
  'nlink',
  'mtime',
  'filesize',
  'devmajor',
  'devminor',
  'rdevmajor',
  'rdevminor',
  'namesize',
  'check',
] as const
/** The header of one record. */
export type CpioHeader = Record<(typeof CPIO_FIELDS)[number], number>

/** File type in the upper bits of the mode (POSIX, `<sys/stat.h>`; Linux values). */
export const CPIO_FILE_TYPE: Readonly<Record<CpioEntry['type'], number>> = {
  fifo: 0o010000,
  'character-device': 0o020000,
  directory: 0o040000,
  'block-device': 0o060000,
  file: 0o100000,
  symlink: 0o120000,
}

/** Names and contents are padded with zeros to a multiple of 4 bytes. */
export function padTo4(size: number): number {
  return Math.ceil(size / 4) * 4
}
