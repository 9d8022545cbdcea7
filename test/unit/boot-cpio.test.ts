import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BootError, type CpioEntry, readCpio, writeCpio } from '../../src/boot/index.js'
import { bootErrorOf } from '../helpers/boot-error-of.js'

const bytes = (text: string) => new Uint8Array(Buffer.from(text))
const file = (path: string, text = ''): CpioEntry => ({ type: 'file', path, data: bytes(text) })
const plain = { uid: 0, gid: 0, mtime: 0 }

describe('writeCpio', () => {
  it('writes the format byte for byte', () => {
    const archive = Buffer.from(writeCpio([{ ...file('ab', 'xyz'), mode: 0o755, mtime: 16 }]))
    const header = [
      '070701',
      '00000001', // ino
      '000081ed', // mode
      '00000000', // uid
      '00000000', // gid
      '00000001', // nlink
      '00000010', // mtime
      '00000003', // filesize
      '00000000', // devmajor
      '00000000', // devminor
      '00000000', // rdevmajor
      '00000000', // rdevminor
      '00000003', // namesize
      '00000000', // check
    ].join('')
    const trailer = `070701${'0'.repeat(32)}00000001${'0'.repeat(48)}0000000b00000000TRAILER!!!\0`
    expect(archive.toString('latin1')).toBe(`${header}ab\0\0\0\0xyz\0${trailer}\0\0\0`)
  })

  it('pads every record to 4 bytes', () => {
    for (let size = 0; size < 9; size++) {
      const archive = writeCpio([file('n'.repeat(size + 1), 'd'.repeat(size))])
      expect(archive.length % 4).toBe(0)
      expect(readCpio(archive).size).toBe(archive.length)
    }
  })

  it('adds missing parents, once, outermost first', () => {
    const { entries } = readCpio(writeCpio([file('a/b/c'), file('a/d'), file('e')]))
    expect(entries.map(({ path, type, mode }) => [path, type, mode])).toEqual([
      ['a', 'directory', 0o755],
      ['a/b', 'directory', 0o755],
      ['a/b/c', 'file', 0o644],
      ['a/d', 'file', 0o644],
      ['e', 'file', 0o644],
    ])
  })

  it('lets a directory be listed after it was added for a child', () => {
    const late: CpioEntry = { type: 'directory', path: 'tmp', mode: 0o1777 }
    const { entries } = readCpio(writeCpio([file('tmp/x'), late]))
    expect(entries.map(({ path }) => path)).toEqual(['tmp', 'tmp/x', 'tmp'])
    expect(entries[2]!.mode).toBe(0o1777)
  })

  it.each([
    ['', /empty/],
    ['/init', /absolute/],
    ['a//b', /component/],
    ['a/', /component/],
    ['./a', /component/],
    ['a/../b', /component/],
    ['a\0b', /zero/],
    ['TRAILER!!!', /ends an archive/],
    ['\ud800', /surrogate/],
    ['x'.repeat(4096), /4096 bytes/],
  ])('refuses the path %j', (path, part) => {
    const error = bootErrorOf(() => writeCpio([file(path)]))
    expect(error).toMatchObject({ code: 'ERR_BOOT_BAD_ENTRY', path })
    expect(error.message).toMatch(part)
  })

  it('takes a path of 4095 bytes', () => {
    const path = `${'é'.repeat(2047)}x`
    expect(readCpio(writeCpio([file(path)])).entries[0]!.path).toBe(path)
  })

  it.each<[string, CpioEntry[]]>([
    ['a path listed twice', [file('a'), file('a')]],
    ['a file below a file', [file('a'), file('a/b')]],
    ['a file that was a parent', [file('a/b'), file('a')]],
    ['a link without target', [{ type: 'symlink', path: 'l', target: '' }]],
    ['a link with too long a target', [{ type: 'symlink', path: 'l', target: 'x'.repeat(4096) }]],
    ['an unknown type', [{ type: 'socket', path: 's' } as unknown as CpioEntry]],
  ])('refuses %s', (_, entries) => {
    expect(bootErrorOf(() => writeCpio(entries)).code).toBe('ERR_BOOT_BAD_ENTRY')
  })

  it('refuses numbers that do not fit', () => {
    const bad = [
      { mode: 0o10000 },
      { uid: -1 },
      { gid: 2 ** 32 },
      { mtime: 0.5 },
      { mode: Number.NaN },
    ]
    for (const part of bad) {
      expect(() => writeCpio([{ ...file('a'), ...part }])).toThrow(
        expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
      )
    }
  })
})

describe('readCpio', () => {
  it('returns what was written', () => {
    const id = fc.integer({ min: 0, max: 0xffff_ffff })
    const common = {
      path: fc.stringMatching(/^[a-zé]{1,9}$/),
      mode: fc.integer({ min: 0, max: 0o7777 }),
      uid: id,
      gid: id,
      mtime: id,
    }
    const data = fc.uint8Array({ maxLength: 40 })
    const target = fc.stringMatching(/^[a-z/]{1,12}$/)
    const entry: fc.Arbitrary<CpioEntry> = fc.oneof(
      fc.record({ ...common, type: fc.constant('file' as const), data }),
      fc.record({ ...common, type: fc.constantFrom('directory' as const, 'fifo' as const) }),
      fc.record({ ...common, type: fc.constant('symlink' as const), target }),
      fc.record({
        ...common,
        type: fc.constantFrom('character-device' as const, 'block-device' as const),
        major: id,
        minor: id,
      }),
    )
    const list = fc.uniqueArray(entry, { selector: ({ path }) => path, maxLength: 8 })
    fc.assert(
      fc.property(list, (entries) => {
        const archive = writeCpio(entries)
        expect(readCpio(archive)).toEqual({ entries, size: archive.length })
      }),
    )
  })

  it('stops at the trailer and tells where', () => {
    const first = writeCpio([file('a')])
    const both = Buffer.concat([first, writeCpio([file('b')])])
    const { entries, size } = readCpio(both)
    expect(entries).toHaveLength(1)
    expect(readCpio(both.subarray(size)).entries[0]!.path).toBe('b')
  })

  it("takes other writers' spellings of paths, the root, and a trailer without padding", () => {
    const archive = Buffer.from(writeCpio([{ type: 'directory', path: '.' }, file('xxabc')]))
    archive.write('./abc', archive.indexOf('xxabc'))
    const { entries } = readCpio(archive.subarray(0, archive.lastIndexOf('!') + 2))
    expect(entries.map(({ path }) => path)).toEqual(['.', 'abc'])
  })

  it('gives every name of a hard link the content', () => {
    const archive = Buffer.from(writeCpio([file('a'), file('b', 'content'), file('c', 'other')]))
    // Inode and link count of the first two records: one file with two names.
    for (const name of ['a\0', 'b\0']) {
      const record = archive.indexOf(name) - 110
      archive.write('00000007', record + 6)
      archive.write('00000002', record + 38)
    }
    expect(readCpio(archive).entries).toEqual([
      { ...file('a', 'content'), mode: 0o644, ...plain },
      { ...file('b', 'content'), mode: 0o644, ...plain },
      { ...file('c', 'other'), mode: 0o644, ...plain },
    ])
  })

  const sound = Buffer.from(writeCpio([file('first', 'data'), file('name', 'abcd')]))
  const second = sound.indexOf('name\0') - 110
  it.each([
    ['a wrong magic', 0, '070702', /070702/],
    ['a sign in a number', 6, '-0000001', /hexadecimal/],
    ['a blank in a number', 6, ' 0000001', /hexadecimal/],
    ['an unknown file type', 14, '0000f1ed', /file type/],
    ['an empty name', 94, '00000001', /name of 1 bytes/],
    ['a huge name', 94, 'ffffffff', /name of 4294967295/],
    ['a name without end', 94, '00000004', /zero-terminated/],
    ['a file longer than the archive', 54, 'fffffff0', /truncated/],
    ['a path that leads out', 110, '../a', /component/],
    ['a path that is not UTF-8', 110, '\xff\xfeaa', /UTF-8/],
  ])('refuses %s', (_, at, text, part) => {
    const archive = Buffer.from(sound)
    archive.write(text, second + at, 'latin1')
    const error = bootErrorOf(() => readCpio(archive))
    expect(error).toMatchObject({ code: 'ERR_BOOT_BAD_ARCHIVE', offset: second })
    expect(error.message).toMatch(part)
  })

  it('refuses every truncation', () => {
    const end = sound.lastIndexOf('!') + 2
    for (let size = 0; size < end; size++) {
      expect(bootErrorOf(() => readCpio(sound.subarray(0, size))).code).toBe('ERR_BOOT_BAD_ARCHIVE')
    }
  })

  it('keeps to the number of entries allowed', () => {
    expect(readCpio(sound, { maxEntries: 2 }).entries).toHaveLength(2)
    expect(bootErrorOf(() => readCpio(sound, { maxEntries: 1 })).message).toContain('more than 1')
  })

  it('throws nothing but BootError on damaged archives', () => {
    const edit = fc.tuple(fc.nat(sound.length - 1), fc.integer({ min: 0, max: 255 }))
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 5 }), (edits) => {
        const archive = Buffer.from(sound)
        for (const [at, value] of edits) archive[at] = value
        try {
          readCpio(archive)
        } catch (error) {
          expect(error).toBeInstanceOf(BootError)
        }
      }),
      { numRuns: 500 },
    )
  })
})
