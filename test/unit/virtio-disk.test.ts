// The block device in native code and the one whose data comes from JavaScript: the same requests of the
// same driver, through every kind of queue.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import {
  type BlockBackend,
  VIRTIO_BLK_F,
  VIRTIO_BLK_S,
  VIRTIO_BLK_T,
  VirtioBlock,
  type VirtioBlockDevice,
} from '../../src/devices/index.js'
import { VirtioDisk, type VirtioDiskOptions } from '../../src/index.js'
import { BlockDriver, type BlockDriverOptions } from '../helpers/block-driver.js'

const MIB = 0x10_0000
const SIZE = 4 * MIB
const { ok, ioError, unsupported } = VIRTIO_BLK_S
const folder = mkdtempSync(join(tmpdir(), 'node-kvm-disk-'))
afterAll(() => rmSync(folder, { recursive: true }))
let files = 0

/** Bytes that tell their place. */
const pattern = (length: number, seed = 1) => {
  const words = new Uint32Array(length / 4)
  for (let i = 0; i < words.length; i++) words[i] = Math.imul(i + 1, 0x9e37_79b1 * seed)
  return new Uint8Array(words.buffer)
}

function image(content: Uint8Array = pattern(SIZE)): string {
  const path = join(folder, `disk${files++}.img`)
  writeFileSync(path, content)
  return path
}

/** A back end in memory. */
class MemoryBackend implements BlockBackend {
  readonly size: number
  flushes = 0
  readonly bytes: Uint8Array
  constructor(bytes: Uint8Array) {
    this.bytes = bytes
    this.size = bytes.length
  }
  async read(offset: number, length: number): Promise<Uint8Array> {
    return this.bytes.slice(offset, offset + length)
  }
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    this.bytes.set(bytes, offset)
  }
  async flush(): Promise<void> {
    this.flushes++
  }
  async discard(offset: number, length: number): Promise<void> {
    this.bytes.fill(0, offset, offset + length)
  }
}

interface Subject {
  readonly device: VirtioBlockDevice
  content(): Uint8Array
}

type Make = (options: VirtioDiskOptions) => Subject

const native =
  (more: VirtioDiskOptions): Make =>
  (options) => {
    const path = image()
    return {
      device: VirtioDisk.open(path, { ...options, ...more }),
      content: () => readFileSync(path),
    }
  }

const makers: readonly (readonly [string, Make])[] = [
  ['io_uring', native({})],
  ['threads', native({ engine: 'threads' })],
  ['O_DIRECT', native({ direct: true })],
  [
    'JavaScript',
    ({ engine: _, direct: __, ...options }) => {
      const backend = new MemoryBackend(pattern(SIZE))
      return { device: new VirtioBlock(backend, options), content: () => backend.bytes }
    },
  ],
]

const rings: readonly (readonly [string, BlockDriverOptions])[] = [
  ['split', {}],
  ['split, no event index', { eventIdx: false }],
  ['split, indirect', { indirect: true }],
  ['packed', { packed: true }],
  ['packed, indirect, no event index', { packed: true, indirect: true, eventIdx: false }],
  ['packed, in order', { packed: true, inOrder: true }],
]

describe.each(makers)('a disk by %s', (_, make) => {
  it.each(rings)('reads and writes through a %s queue', async (_, options) => {
    const { device, content } = make({})
    const expected = pattern(SIZE)
    await using driver = new BlockDriver(device, options)
    const jobs: Promise<void>[] = []
    // More at once than the ring has room for, at places that do not overlap.
    for (let i = 0; i < 200; i++) {
      const sector = i * 40
      const parts = i % 3 === 0 ? [512, 1024, 4096, 1024 * (1 + (i % 5))] : [2048 * (1 + (i % 8))]
      const length = parts.reduce((sum, part) => sum + part, 0)
      jobs.push(
        (async () => {
          const before = await driver.read(sector, length, { parts })
          expect(before).toMatchObject({ status: ok, written: length + 1 })
          expect(
            Buffer.compare(before.data, expected.subarray(sector * 512, sector * 512 + length)),
          ).toBe(0)
          const data = pattern(length, i + 2)
          expect(await driver.write(sector, data, { parts })).toMatchObject({
            status: ok,
            written: 1,
          })
          expected.set(data, sector * 512)
          const after = await driver.read(sector, length)
          expect(Buffer.compare(after.data, data)).toBe(0)
        })(),
      )
    }
    await Promise.all(jobs)
    expect(await driver.flush()).toBe(ok)
    expect(Buffer.compare(content(), expected)).toBe(0)
    expect(driver.failures).toEqual([])
  })

  it('serves several queues', async () => {
    const { device } = make({ queues: 3 })
    expect(device.deviceFeatures & VIRTIO_BLK_F.multiQueue).toBe(VIRTIO_BLK_F.multiQueue)
    await using driver = new BlockDriver(device, { queues: 3 })
    const answers = Array.from({ length: 60 }, (_, i) => driver.read(i * 8, 4096, { queue: i % 3 }))
    const all = pattern(SIZE)
    for (const [i, answer] of (await Promise.all(answers)).entries()) {
      expect(Buffer.compare(answer.data, all.subarray(i * 4096, (i + 1) * 4096))).toBe(0)
    }
  })

  it('refuses what is outside, not whole sectors, or unknown, and goes on', async () => {
    const { device, content } = make({})
    await using driver = new BlockDriver(device)
    const last = SIZE / 512
    const sector = new Uint8Array(512)
    for (const refused of [
      driver.read(last, 512),
      driver.read(last - 1, 1024),
      driver.read(2 ** 55, 512),
      driver.write(last, sector),
      driver.write(last - 1, new Uint8Array(1024)),
      driver.write(0, new Uint8Array(100)),
      driver.read(0, 513),
    ]) {
      const { status, written } = await refused
      expect(status).toBe(ioError)
      expect(written).toBeLessThanOrEqual(1)
    }
    expect(await driver.request({ type: 99 })).toMatchObject({ status: unsupported })
    expect((await driver.read(0, 512)).status).toBe(ok)
    expect(Buffer.compare(content(), pattern(SIZE))).toBe(0)
    expect(driver.failures).toEqual([])
  })

  it('discards and writes zeros', async () => {
    const { device, content } = make({})
    const { discard, writeZeroes } = VIRTIO_BLK_T
    await using driver = new BlockDriver(device)
    expect(await driver.range(writeZeroes, 8, 8192, 1)).toBe(ok)
    expect(await driver.range(writeZeroes, 100, 512 * 3)).toBe(ok)
    expect(await driver.range(discard, 4096, MIB)).toBe(ok)
    const expected = pattern(SIZE)
    expected.fill(0, 8 * 512, 8 * 512 + 8192)
    expected.fill(0, 100 * 512, 103 * 512)
    expected.fill(0, 4096 * 512, 4096 * 512 + MIB)
    expect(Buffer.compare(content(), expected)).toBe(0)
    expect(await driver.range(discard, 0, 512, 1)).toBe(unsupported)
    expect(await driver.range(writeZeroes, 0, 512, 2)).toBe(unsupported)
    expect(await driver.range(discard, SIZE / 512 - 1, 1024)).toBe(ioError)
    expect(await driver.request({ type: discard, data: new Uint8Array(32) })).toMatchObject({
      status: ioError,
    })
  })

  it('that is read-only changes nothing', async () => {
    const { device, content } = make({ readOnly: true })
    expect(device.deviceFeatures & VIRTIO_BLK_F.readOnly).toBe(VIRTIO_BLK_F.readOnly)
    await using driver = new BlockDriver(device)
    expect((await driver.write(0, new Uint8Array(512))).status).toBe(ioError)
    expect(await driver.range(VIRTIO_BLK_T.discard, 0, 512)).not.toBe(ok)
    expect(await driver.range(VIRTIO_BLK_T.writeZeroes, 0, 512)).not.toBe(ok)
    expect((await driver.read(0, 512)).status).toBe(ok)
    expect(Buffer.compare(content(), pattern(SIZE))).toBe(0)
  })

  it('gives its serial number', async () => {
    const { device } = make({ serial: 'disk-42' })
    await using driver = new BlockDriver(device)
    const { status, data } = await driver.request({ type: VIRTIO_BLK_T.getId, room: 20 })
    expect({ status, id: Buffer.from(data).toString() }).toEqual({
      status: ok,
      id: `disk-42${'\0'.repeat(13)}`,
    })
  })

  it('ends where the driver does what it must not: no header, no room for a status', async () => {
    for (const wrong of [
      { readable: [{ gpa: 0x10_0000, length: 8 }], writable: [{ gpa: 0x10_1000, length: 1 }] },
      { readable: [{ gpa: 0x10_0000, length: 16 }] },
      { writable: [{ gpa: 0x10_0000, length: 16 }] },
      { readable: [{ gpa: 2 ** 40, length: 16 }], writable: [{ gpa: 0x10_1000, length: 1 }] },
    ]) {
      const { device } = make({})
      await using driver = new BlockDriver(device)
      driver.rings[0]!.add(wrong)
      driver.kick()
      await expect
        .poll(() => driver.failures.map(String), { timeout: 20_000 })
        .toEqual([expect.stringMatching(/VirtqueueError/)])
    }
  })
})
