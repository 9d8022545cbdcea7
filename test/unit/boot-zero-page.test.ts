import { describe, expect, it } from 'vitest'
import { encodeZeroPage, SETUP_HEADER, ZERO_PAGE } from '../../src/boot/index.js'

describe('encodeZeroPage', () => {
  it('splits a RAM disk above 4 GiB over the low and the extended fields', () => {
    const page = Buffer.from(
      encodeZeroPage({
        kernelGpa: 0xfffff000,
        cmdlineGpa: 0x2_0000,
        initrd: { gpa: 0x3_c000_1000, size: 0x1_8000_0002 },
        memoryMap: [{ gpa: 0x1_0000_0000, size: 0x10_0000_0000, type: 1 }],
        rsdpGpa: 0,
      }),
    )
    expect(page).toHaveLength(4096)
    expect(page.readUInt32LE(SETUP_HEADER.ramdisk_image)).toBe(0xc000_1000)
    expect(page.readUInt32LE(ZERO_PAGE.ext_ramdisk_image)).toBe(3)
    expect(page.readUInt32LE(SETUP_HEADER.ramdisk_size)).toBe(0x8000_0002)
    expect(page.readUInt32LE(ZERO_PAGE.ext_ramdisk_size)).toBe(1)
    expect(page.readUInt32LE(SETUP_HEADER.code32_start)).toBe(0xfffff000)
    expect(page.readUInt8(ZERO_PAGE.e820_entries)).toBe(1)
    expect(page.readBigUInt64LE(ZERO_PAGE.e820_table)).toBe(0x1_0000_0000n)
    expect(page.readBigUInt64LE(ZERO_PAGE.e820_table + 8)).toBe(0x10_0000_0000n)
    expect(page.readUInt32LE(ZERO_PAGE.e820_table + 16)).toBe(1)
  })
})
