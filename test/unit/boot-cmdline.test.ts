import { describe, expect, it } from 'vitest'
import { DEFAULT_CMDLINE_LIMIT, encodeCmdline } from '../../src/boot/index.js'
import { bootErrorOf } from '../helpers/boot-error-of.js'

describe('encodeCmdline', () => {
  it('ends with a zero', () => {
    expect([...encodeCmdline('a b')]).toEqual([0x61, 0x20, 0x62, 0])
    expect([...encodeCmdline('')]).toEqual([0])
  })

  it('takes exactly the limit, which does not count the zero', () => {
    expect(encodeCmdline('x'.repeat(DEFAULT_CMDLINE_LIMIT))).toHaveLength(2048)
    const error = bootErrorOf(() => encodeCmdline('x'.repeat(2048)))
    expect(error).toMatchObject({ code: 'ERR_BOOT_CMDLINE_TOO_LONG', size: 2048, limit: 2047 })
    expect(error.message).toContain('2048 bytes long')
    expect(encodeCmdline('abc', 3)).toHaveLength(4)
    expect(bootErrorOf(() => encodeCmdline('abc', 2)).limit).toBe(2)
  })

  it('refuses everything but printable ASCII, and says where', () => {
    for (const bad of ['\0', '\n', '\t', '\x7f', 'é', '\u{1f600}']) {
      const error = bootErrorOf(() => encodeCmdline(`ok ${bad}`))
      expect(error).toMatchObject({ code: 'ERR_BOOT_CMDLINE_INVALID', offset: 3 })
    }
  })

  it('refuses what is not a string', () => {
    expect(() => encodeCmdline(1 as unknown as string)).toThrow(
      expect.objectContaining({ name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' }),
    )
  })
})
