import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { readConfig } from '../../src/cli/config.js'
import { deviceArgument } from '../../src/cli/device-specs.js'
import { FileError, type Located, parseLocated } from '../../src/cli/located-json.js'

const folder = mkdtempSync(join(tmpdir(), 'config-'))
const file = join(folder, 'machine.json')
afterAll(() => rmSync(folder, { recursive: true }))

function read(text: string) {
  writeFileSync(file, text)
  return readConfig(file)
}

/** What the parser gives, without its lines. */
function plain({ value }: Located): unknown {
  if (value instanceof Map) {
    // Not by assignment: a key may be __proto__.
    return Object.fromEntries([...value].map(([key, item]) => [key, plain(item)]))
  }
  return Array.isArray(value) ? value.map(plain) : value
}

describe('parseLocated', () => {
  it('gives what JSON.parse gives', () => {
    fc.assert(
      fc.property(fc.json(), fc.constantFrom(undefined, 2), (text, indent) => {
        const value = JSON.parse(text)
        expect(plain(parseLocated('f', JSON.stringify(value, null, indent)))).toEqual(value)
      }),
      { seed: 1, numRuns: 200 },
    )
  })

  it('refuses what JSON.parse refuses', () => {
    const broken = fc.tuple(fc.json(), fc.nat(), fc.constantFrom('', '"', '{', ',', ']', '1', '\\'))
    fc.assert(
      fc.property(broken, ([text, at, put]) => {
        const place = at % (text.length + 1)
        const changed = text.slice(0, place) + put + text.slice(place + 1)
        let expected: unknown
        try {
          expected = JSON.parse(changed)
        } catch {
          expect(() => parseLocated('f', changed)).toThrow(FileError)
          return
        }
        try {
          expect(plain(parseLocated('f', changed))).toEqual(expected)
        } catch (error) {
          // The one thing in which it is stricter.
          if (!(error instanceof FileError)) throw error
          expect(error.message).toMatch(/twice|nested/)
        }
      }),
      { seed: 2, numRuns: 500 },
    )
  })

  it.each([
    ['{\n  "a": 1,\n  "a": 2\n}', 'f:3: the key "a" is there twice'],
    ['{\n  "a" 1\n}', 'f:2: expected \':\' behind "a"'],
    ['[1\n2]', "f:2: expected ',' or ']'"],
    ['{\n a: 1}', 'f:2: expected a key in quotes'],
    ['"\\x"', 'f:1: a bad escape or character in "\\x"'],
    ['"abc', 'f:1: a string that does not end'],
    ['{}\n\n{}', 'f:3: expected the end of the file'],
    ['', 'f:1: expected a value'],
    ['['.repeat(100), 'f:1: nested too deeply'],
  ])('tells where %j is wrong', (text, message) => {
    expect(() => parseLocated('f', text)).toThrow(new FileError('x', 0, '').constructor)
    expect(() => parseLocated('f', text)).toThrow(message)
  })
})

describe('readConfig', () => {
  it('reads a whole machine, paths relative to the file', () => {
    const config = read(`{
      "cpus": 4, "memory": "1G", "onReset": "restart", "holdSerialInput": false,
      "boot": { "kernel": "vmlinuz", "initrd": "/boot/initrd", "cmdline": "quiet", "protocol": "pvh",
        "modules": [{ "image": "a" }] },
      "fwCfg": { "opt/a": "text", "etc/sercon-port": 1016 }
    }`)
    expect(config).toEqual({
      cpus: 4,
      memory: '1G',
      onReset: 'restart',
      holdSerialInput: false,
      boot: {
        kernel: join(folder, 'vmlinuz'),
        initrd: '/boot/initrd',
        cmdline: 'quiet',
        protocol: 'pvh',
        modules: [{ image: join(folder, 'a') }],
      },
      fwCfg: { 'opt/a': 'text', 'etc/sercon-port': 1016 },
    })
    const options = {
      backing: 'anonymous',
      ...{ prefault: true, mlock: 'onfault', thp: 'madvise', mergeable: false },
      ...{ dontFork: true, dontDump: true, numa: { mode: 'preferred', nodes: [0] } },
    }
    expect(read(JSON.stringify({ memoryOptions: options }))).toEqual({ memoryOptions: options })
    const ram =
      '{"memoryOptions": {"backing": {"file": "ram", "offset": "0x1000", "mode": "private"}}}'
    expect(read(ram).memoryOptions).toEqual({
      backing: { file: join(folder, 'ram'), offset: 0x1000, mode: 'private' },
    })
    expect(read('{"boot": {"flat": "x", "gpa": "0x7c00", "mode": "real"}}')).toEqual({
      boot: { flat: join(folder, 'x'), gpa: 0x7c00, mode: 'real' },
    })
  })

  it.each([
    ['[]', 1, 'the file must be an object'],
    ['{\n"cpu": 1}', 2, '"cpu" is no key of it; there are cpus, threads'],
    ['{"cpus":\n0}', 2, '"cpus" is out of range'],
    ['{"cpus": "4"}', 1, '"cpus" must be a positive integer'],
    ['{\n\n"memory": "lots"}', 3, '"memory" argument must be a size'],
    ['{"memory": true}', 1, '"memory" must be a string'],
    ['{"boot": {}}', 1, '"boot" must have one of the keys kernel, flat, firmware'],
    ['{"boot": {"kernel": "a", "flat": "b"}}', 1, '"boot" must have one of the keys'],
    ['{"boot":\n{"kernel": 1}}', 2, '"boot.kernel" must be a string'],
    ['{"boot": {"kernel": "a",\n"mode": "real"}}', 2, '"boot.mode" is no key of it'],
    ['{"boot": {"flat": "a", "mode": "real"}}', 1, '"boot.gpa" is missing'],
    ['{"boot": {"flat": "a", "gpa": 0, "mode": "smm"}}', 1, 'must be one of real, protected, long'],
    ['{"boot": {"kernel": "a", "modules": {}}}', 1, '"boot.modules" must be a list'],
    ['{"boot": {"kernel": "a", "modules": [{},\n{}]}}', 1, '"boot.modules[0].image" is missing'],
    ['{"fwCfg": {"a":\n[]}}', 2, '"fwCfg["a"]" must be a string'],
    ['{"onReset": "maybe"}', 1, '"onReset" must be one of end, restart'],
    ['{"cpuModel":\n"z80"}', 2, '"cpuModel" must be one of host, x86-64'],
    ['{"cpuFeatures": {"avx": 0}}', 1, '"cpuFeatures["avx"]" must be true or false'],
    ['{"threadsPerCore": 0}', 1, '"threadsPerCore" is out of range'],
    ['{"devicePlaces": {"serial": "kernel"}}', 1, '"devicePlaces.serial" must be one of vcpu, js'],
    [
      '{"memoryOptions": {"thp":\n"always"}}',
      2,
      '"memoryOptions.thp" must be one of madvise, never',
    ],
    ['{"memoryOptions": {"hugePages": "2MiB"}}', 1, '"memoryOptions.hugePages" is no key of it'],
    [
      '{"memoryOptions": {"backing":\n"disk"}}',
      2,
      '"memoryOptions.backing" must be one of memfd, anon',
    ],
    ['{"memoryOptions": {"backing": {}}}', 1, 'must have one of the keys file, hugePages'],
    ['{"memoryOptions": {"backing": {"hugePages": "4KiB"}}}', 1, 'must be one of 2MiB, 1GiB'],
    [
      '{"memoryOptions": {"backing":\n{"file": "a"}}}',
      2,
      '"memoryOptions.backing.mode" is missing',
    ],
    [
      '{"memoryOptions": {"mlock": "yes"}}',
      1,
      '"memoryOptions.mlock" must be true, false or onfault',
    ],
    ['{\n"memoryOptions": {"numa": {"mode": "bind", "nodes": []}}}', 2, 'at least one node'],
    ['{"holdSerialInput": 1}', 1, '"holdSerialInput" must be true or false'],
  ])('refuses %j and says where', (text, line, complaint) => {
    const attempt = () => read(text)
    expect(attempt).toThrow(expect.objectContaining({ code: 'ERR_KVM_CONFIG' }))
    expect(attempt).toThrow(`${file}:${line}: `)
    expect(attempt).toThrow(complaint)
  })
})

describe('devices', () => {
  it('are read with their places', () => {
    const text = '{"devices": [{"type": "rng"}, {"type": "rng", "slot": 9, "packed": true}]}'
    expect(read(text).devices).toEqual([
      { type: 'rng', place: {}, options: {} },
      { type: 'rng', place: { slot: 9, packed: true }, options: {} },
    ])
  })

  it('are the same on the command line', () => {
    expect(deviceArgument('rng,slot=9,packed,transport=mmio')).toEqual({
      type: 'rng',
      place: { slot: 9, packed: true, transport: 'mmio' },
      options: {},
    })
  })

  it('that are disks have their file from the folder of the configuration', () => {
    const text = '{"devices": [{"type": "disk", "file": "a.img", "cache": "none", "queues": 2}]}'
    expect(read(text).devices).toEqual([
      {
        type: 'disk',
        place: {},
        options: { file: join(folder, 'a.img'), cache: 'none', queues: 2 },
      },
    ])
    expect(deviceArgument('disk,/a.img,readOnly,serial=x,slot=3')).toEqual({
      type: 'disk',
      place: { slot: 3 },
      options: { file: '/a.img', readOnly: true, serial: 'x' },
    })
  })

  it.each([
    ['{"devices": [\n{"type": "tape"}]}', ':2: "devices[0].type" must be one of rng'],
    ['{"devices": [{}]}', ':1: "devices[0].type" must be one of rng'],
    ['{"devices": [\n{"type": "rng",\n"slots": 1}]}', ':3: "devices[0].slots" is no key of it'],
  ])('complains about %s', (text, complaint) => {
    expect(() => read(text)).toThrow(complaint)
  })

  it.each([
    ['tape', '--device: "tape.type" must be one of rng'],
    ['rng,slot=x', '--device: "rng.slot" must be a positive integer'],
    ['rng,transport=isa', '--device: "rng.transport" must be one of pci, mmio'],
    ['rng,speed=1', '--device: "rng.speed" is no key of it'],
    ['disk', '--device: "disk.file" is missing'],
    ['disk,/a.img,cache=cold', '--device: "disk.cache" must be one of writeback, writethrough'],
  ])('complains about --device %s', (text, complaint) => {
    expect(() => deviceArgument(text)).toThrow(complaint)
  })
})
