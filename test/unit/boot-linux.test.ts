import { describe, expect, it } from 'vitest'
import { type LinuxLoadOptions, loadLinux } from '../../src/boot/index.js'
import { bootErrorOf } from '../helpers/boot-error-of.js'
import { makeBzImage, makeElf, makePvhElf } from '../helpers/boot-images.js'
import { lowRam } from '../helpers/canary-memory.js'

const load = (options: LinuxLoadOptions) => loadLinux(lowRam(0x80_0000), options)

describe('loadLinux', () => {
  it('recognises the formats and chooses the protocol', () => {
    expect(load({ kernel: makeBzImage() }).protocol).toBe('linux64')
    expect(load({ kernel: makeElf() }).protocol).toBe('linux64')
    expect(load({ kernel: makePvhElf() }).protocol).toBe('pvh')
    expect(load({ kernel: makePvhElf(), protocol: 'linux64' }).protocol).toBe('linux64')
    expect(load({ kernel: makeBzImage(), protocol: 'linux64' }).protocol).toBe('linux64')
  })

  it('reads an image that is a view into a larger buffer', () => {
    const image = makeBzImage()
    const around = Buffer.concat([Buffer.alloc(13, 0xff), image, Buffer.alloc(5, 0xff)])
    const state = load({ kernel: around.subarray(13, 13 + image.length) })
    expect(state.protocol).toBe('linux64')
  })

  it('has no PVH entry for a bzImage', () => {
    const error = bootErrorOf(() => load({ kernel: makeBzImage(), protocol: 'pvh' }))
    expect(error.code).toBe('ERR_BOOT_UNSUPPORTED')
  })

  it.each([
    ['gzip', [0x1f, 0x8b, 8, 0], /gzip data; decompress/],
    ['zstd', [0x28, 0xb5, 0x2f, 0xfd], /zstd/],
    ['an initramfs', [...Buffer.from('070701')], /swapped/],
    ['nothing', [], /0 bytes that begin with nothing/],
    ['text', [...Buffer.from('hello, world')], /12 bytes that begin with 68 65 6c/],
    ['the beginning of a bzImage', [...makeBzImage().subarray(0, 0x205)], /neither/],
  ])('says what %s is instead of a kernel', (_, bytes, part) => {
    const error = bootErrorOf(() => load({ kernel: Uint8Array.from(bytes) }))
    expect(error.code).toBe('ERR_BOOT_BAD_IMAGE')
    expect(error.message).toMatch(part)
  })

  it('refuses misuse like Node does', () => {
    const misuse: [unknown, string][] = [
      [{ kernel: 'vmlinuz' }, 'ERR_INVALID_ARG_TYPE'],
      [{ kernel: makeElf(), initrd: 'initrd' }, 'ERR_INVALID_ARG_TYPE'],
      [{ kernel: makeElf(), cmdline: 7 }, 'ERR_INVALID_ARG_TYPE'],
      [{ kernel: makeElf(), rsdpGpa: -1 }, 'ERR_OUT_OF_RANGE'],
      [{ kernel: makeElf(), protocol: 'xen' }, 'ERR_OUT_OF_RANGE'],
      [{ kernel: makeElf(), reservations: [{ gpa: 0, size: 0, type: 2 }] }, 'ERR_OUT_OF_RANGE'],
      [{ kernel: makeElf(), reservations: [{ gpa: 0.5, size: 1, type: 2 }] }, 'ERR_OUT_OF_RANGE'],
    ]
    for (const [options, code] of misuse) {
      expect(() => load(options as LinuxLoadOptions)).toThrow(expect.objectContaining({ code }))
    }
  })

  it('says which RAM is missing when there is too little', () => {
    for (const kernel of [makeBzImage(), makeElf(), makePvhElf()]) {
      const memory = lowRam(0x1_0000)
      const error = bootErrorOf(() => loadLinux(memory, { kernel }))
      expect(error.code).toBe('ERR_BOOT_NO_SPACE')
      expect(error.message).toContain('0x0..0x10000')
      expect(memory.isUntouched()).toBe(true)
    }
  })
})
