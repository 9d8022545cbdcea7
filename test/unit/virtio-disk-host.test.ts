// The block device in native code and its host: reset, pause and close with requests in flight, faults,
// geometry, limits, sizes that change.
import { execFileSync } from 'node:child_process'
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, describe, expect, it } from 'vitest'
import {
  type BlockBackend,
  VIRTIO_BLK_CONFIG,
  VIRTIO_BLK_F,
  VIRTIO_BLK_S,
  VIRTIO_BLK_T,
  VirtioBlock,
} from '../../src/devices/index.js'
import { VirtioDisk, type VirtioDiskOptions } from '../../src/index.js'
import { BlockDriver } from '../helpers/block-driver.js'
import { codeOf } from '../helpers/thrown.js'

const MIB = 0x10_0000
const { ok, ioError } = VIRTIO_BLK_S
const folder = mkdtempSync(join(tmpdir(), 'node-kvm-disk-host-'))
const cleanUps: (() => void)[] = [() => rmSync(folder, { recursive: true })]
afterAll(() => {
  for (const cleanUp of cleanUps.reverse()) cleanUp()
})

const QUIET = { stdio: 'pipe' } as const

let files = 0
function image(size = MIB, fill = 7): string {
  const path = join(folder, `disk${files++}.img`)
  writeFileSync(path, Buffer.alloc(size, fill))
  return path
}

/** Why a program cannot do its work here; undefined when it did it. */
function attempt(program: string, ...args: string[]): string | undefined {
  try {
    execFileSync(program, args, { stdio: 'pipe' })
    return undefined
  } catch (error) {
    return String((error as { stderr?: Buffer }).stderr ?? error)
  }
}

const engines = [{ engine: 'auto' }, { engine: 'threads' }] as const satisfies VirtioDiskOptions[]

describe.each(engines)('with the engine "$engine"', (options) => {
  it('a reset leaves memory alone from then on, whatever was in flight', async () => {
    const path = image(4 * MIB)
    for (let round = 0; round < 10; round++) {
      await using driver = new BlockDriver(VirtioDisk.open(path, options), {
        packed: round % 2 === 1,
        depth: 6,
      })
      for (let i = 0; i < 5; i++) void driver.read(i * 128, 65536 * 4)
      if (round % 3 === 0) await driver.read(0, 512)
      await driver.reset()
      const { memory } = driver
      memory.fill(0, memory.size, 0xaa)
      const untouched = Buffer.alloc(memory.size, 0xaa)
      await sleep(2)
      expect(untouched.equals(memory.read(0, memory.size))).toBe(true)
    }
  })

  it('reads what the page cache has, and what it no longer has', async () => {
    const path = image(4 * MIB)
    await using driver = new BlockDriver(VirtioDisk.open(path, options))
    for (let sector = 0; sector < 64; sector++) {
      await driver.write(sector * 64, Buffer.alloc(512, sector))
      if (sector % 8 === 0) {
        // Written back, and dropped from the cache.
        execFileSync('dd', [`if=${path}`, `of=${path}`, 'conv=notrunc,fsync', 'count=0'], QUIET)
        execFileSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0'], QUIET)
      }
      const { status, data } = await driver.read(sector * 64, 4096)
      expect(status).toBe(ok)
      const expected = Buffer.alloc(4096, 7).fill(sector, 0, 512)
      expect(Buffer.compare(data, expected)).toBe(0)
    }
  })

  it('a pause finishes what was begun, and what came then waits', async () => {
    const disk = VirtioDisk.open(image(), options)
    await using driver = new BlockDriver(disk)
    expect((await driver.read(0, 512)).status).toBe(ok)
    await disk.pause()
    let isDone = false
    const later = driver.read(0, 512).then(({ status }) => {
      isDone = true
      return status
    })
    await sleep(20)
    expect(isDone).toBe(false)
    disk.resume()
    expect(await later).toBe(ok)
    await disk.pause()
  })

  it('a file that was truncated gives errors beyond its end, and no data', async () => {
    const path = image()
    await using driver = new BlockDriver(VirtioDisk.open(path, options))
    truncateSync(path, 4096)
    const { status, written } = await driver.read(4, 4096)
    expect({ status, written }).toEqual({ status: ioError, written: 2048 })
    expect(await driver.read(1024, 512)).toMatchObject({ status: ioError, written: 0 })
    expect((await driver.read(0, 4096)).status).toBe(ok)
  })

  // What comes during a pause is taken together, and what follows one another is one operation then.
  it('requests that follow one another each get their own data, and their own error', async () => {
    const path = image()
    const disk = VirtioDisk.open(path, options)
    await using driver = new BlockDriver(disk, { queueSize: 128 })
    const together = async <T>(requests: () => Promise<T>[]) => {
      await disk.pause()
      const all = requests()
      disk.resume()
      return Promise.all(all)
    }
    const blocks = [0, 1, 2, 3, 4, 9, 10, 11]
    const content = (i: number) => Buffer.alloc(4096, 0x40 + i)
    const writes = await together(() =>
      blocks.map((i) => driver.write(i * 8, content(i), { parts: [512, 3000, 584] })),
    )
    expect(writes.map(({ status, written }) => [status, written])).toEqual(
      blocks.map(() => [ok, 1]),
    )
    const onDisk = readFileSync(path)
    for (const i of blocks) {
      expect(onDisk.subarray(i * 4096, (i + 1) * 4096).equals(content(i)), `${i}`).toBe(true)
    }
    expect(onDisk[5 * 4096]).toBe(7)
    truncateSync(path, 3 * 4096 + 512)
    const reads = await together(() => blocks.map((i) => driver.read(i * 8, 4096)))
    const found = reads.map(({ status, written }) => [status, written])
    const whole = [ok, 4097]
    const none = [ioError, 0]
    expect(found).toEqual([whole, whole, whole, [ioError, 512], none, none, none, none])
    for (const i of [0, 1, 2]) expect(content(i).equals(reads[i]!.data), `${i}`).toBe(true)
    expect(reads[3]!.data.subarray(0, 512)).toEqual(new Uint8Array(content(3).subarray(0, 512)))
    expect(disk.statistics).toMatchObject({ writes: 8, reads: 3, errors: 5, bytesRead: 3 * 4096 })
  })

  it('a full disk gives an error, and what was written before is there', async (context) => {
    const full = join(folder, `full-${options.engine}`)
    mkdirSync(full)
    const why = attempt('mount', '-t', 'tmpfs', '-o', 'size=1M', 'tmpfs', full)
    if (why !== undefined) context.skip(`no tmpfs can be mounted: ${why}`)
    cleanUps.push(() => execFileSync('umount', [full]))
    const path = join(full, 'disk.img')
    writeFileSync(path, '')
    truncateSync(path, 8 * MIB)
    await using driver = new BlockDriver(VirtioDisk.open(path, options))
    const piece = Buffer.alloc(MIB / 4, 9)
    const statuses: number[] = []
    for (let i = 0; i < 8; i++) statuses.push((await driver.write(i * 512, piece)).status)
    expect(statuses.slice(0, 3)).toEqual([ok, ok, ok])
    expect(statuses.slice(4)).toEqual([ioError, ioError, ioError, ioError])
    expect((await driver.read(0, piece.length)).data.every((byte) => byte === 9)).toBe(true)
    expect(statSync(path).blocks * 512).toBeLessThanOrEqual(MIB)
  })

  it('writes are on the medium when the driver wants no cache', async () => {
    const disk = VirtioDisk.open(image(), options)
    await using driver = new BlockDriver(disk, {
      without: VIRTIO_BLK_F.flush | VIRTIO_BLK_F.configWce,
    })
    expect(disk.isWriteBack).toBe(false)
    expect((await driver.write(0, Buffer.alloc(512, 1))).status).toBe(ok)
    expect(await driver.range(VIRTIO_BLK_T.writeZeroes, 8, 4096)).toBe(ok)
  })
})

it('the guest switches the cache, until it resets the device', async () => {
  const disk = VirtioDisk.open(image(), { writeCache: 'writethrough' })
  expect(disk.isWriteBack).toBe(false)
  await using driver = new BlockDriver(disk)
  expect(disk.isWriteBack).toBe(false)
  disk.writeConfig(VIRTIO_BLK_CONFIG.writeback, 1, 1)
  expect(disk.isWriteBack).toBe(true)
  expect((await driver.write(0, Buffer.alloc(512, 1))).status).toBe(ok)
  await driver.reset()
  expect(disk.isWriteBack).toBe(false)
})

it('one that ignores flushes flushes nothing', async () => {
  const disk = VirtioDisk.open(image(), { ignoreFlush: true })
  await using driver = new BlockDriver(disk)
  expect(await driver.flush()).toBe(ok)
  expect(disk.statistics).toMatchObject({ flushes: 1, errors: 0 })
})

it('O_DIRECT takes buffers and places of any alignment', async () => {
  const path = image()
  await using driver = new BlockDriver(VirtioDisk.open(path, { direct: true }))
  const data = Buffer.alloc(4096)
  for (let i = 0; i < data.length; i++) data[i] = i * 7
  for (const [sector, skew, parts] of [
    [0, 0, [4096]],
    [8, 1, [4096]],
    [17, 0, [512, 3584]],
    [33, 100, [13, 4083]],
  ] as const) {
    expect(await driver.write(sector, data, { skew, parts })).toMatchObject({ status: ok })
    const { status, data: back } = await driver.read(sector, 4096, { skew, parts })
    expect({ status, same: Buffer.compare(back, data) }).toEqual({ status: ok, same: 0 })
  }
  expect(await driver.flush()).toBe(ok)
  expect(readFileSync(path).subarray(17 * 512, 17 * 512 + 4096)).toEqual(data)
})

it('a discard gives blocks of the file back', async () => {
  const path = image(8 * MIB)
  await using driver = new BlockDriver(VirtioDisk.open(path))
  const before = statSync(path).blocks
  expect(await driver.range(VIRTIO_BLK_T.discard, 0, 4 * MIB)).toBe(ok)
  expect(statSync(path).blocks).toBeLessThanOrEqual(before - (4 * MIB) / 512)
  expect(statSync(path).size).toBe(8 * MIB)
})

it('a file that has grown, or shrunk, is told to the guest', async () => {
  const path = image()
  const disk = VirtioDisk.open(path)
  await using driver = new BlockDriver(disk)
  expect((await driver.read(2048, 512)).status).toBe(ioError)
  truncateSync(path, 2 * MIB)
  expect((await driver.read(2048, 512)).status).toBe(ioError)
  expect(disk.refreshSize()).toBe(2 * MIB)
  expect(driver.configChanges).toBe(1)
  expect(disk.readConfig(VIRTIO_BLK_CONFIG.capacity, 4)).toBe(4096)
  expect((await driver.read(2048, 512)).status).toBe(ok)
  truncateSync(path, MIB / 2)
  disk.refreshSize()
  expect((await driver.read(1024, 512)).status).toBe(ioError)
})

it('a limit slows the guest down, and can be lifted', async () => {
  const disk = VirtioDisk.open(image(), { limit: { operationsPerSecond: 50, operationsBurst: 5 } })
  await using driver = new BlockDriver(disk)
  const start = performance.now()
  for (let i = 0; i < 15; i++) await driver.read(0, 512)
  // 5 at once, then one each 20 ms.
  expect(performance.now() - start).toBeGreaterThan(150)
  disk.limit({ bytesPerSecond: MIB, bytesBurst: 1000 })
  const again = performance.now()
  for (let i = 0; i < 4; i++) await driver.read(0, MIB / 16)
  expect(performance.now() - again).toBeGreaterThan(100)
  disk.limit({})
  await Promise.all(Array.from({ length: 64 }, (_, i) => driver.read(i, 4096)))
})

it('geometry is what the kernel says, or what was asked for', async () => {
  const disk = VirtioDisk.open(image())
  const { blksize } = statSync(folder)
  const at = VIRTIO_BLK_CONFIG
  expect(disk.readConfig(at.blockSize, 4)).toBe(512)
  expect(512 * 2 ** disk.readConfig(at.physicalBlockExp, 1)).toBe(blksize)
  disk.close()
  const geometry = {
    ...{ logicalBlock: 4096, physicalBlock: 16384, alignmentOffset: 8192 },
    ...{ minimumIo: 65536, optimalIo: MIB },
  }
  const chosen = VirtioDisk.open(image(), geometry)
  const read = (offset: number, size: number) => chosen.readConfig(offset, size)
  expect({
    block: read(at.blockSize, 4),
    exponent: read(at.physicalBlockExp, 1),
    offset: read(at.alignmentOffset, 1),
    minimum: read(at.minIoSize, 2),
    optimum: read(at.optIoSize, 4),
  }).toEqual({ block: 4096, exponent: 2, offset: 2, minimum: 16, optimum: 256 })
  chosen.close()
})

it('a block device with sectors of 4096 says so', async (context) => {
  const path = image(4 * MIB)
  let loop = ''
  try {
    const args = ['--find', '--show', '--sector-size', '4096', path]
    loop = execFileSync('losetup', args, { encoding: 'utf8', stdio: 'pipe' }).trim()
  } catch (error) {
    context.skip(`no loop device: ${String((error as { stderr?: Buffer }).stderr ?? error)}`)
  }
  cleanUps.push(() => execFileSync('losetup', ['-d', loop]))
  const disk = VirtioDisk.open(loop, { direct: true })
  await using driver = new BlockDriver(disk)
  expect(disk.size).toBe(4 * MIB)
  expect(disk.readConfig(VIRTIO_BLK_CONFIG.blockSize, 4)).toBe(4096)
  expect((await driver.write(8, Buffer.alloc(4096, 3))).status).toBe(ok)
  // Smaller than a sector of the device: by the page cache.
  expect((await driver.write(17, Buffer.alloc(512, 4))).status).toBe(ok)
  expect(await driver.flush()).toBe(ok)
  const { data } = await driver.read(16, 4096)
  expect([data[0], data[512], data[1024]]).toEqual([7, 4, 7])
  expect(await driver.range(VIRTIO_BLK_T.writeZeroes, 8, 4096)).toBe(ok)
  expect((await driver.read(8, 4096)).data.every((byte) => byte === 0)).toBe(true)
})

it('an image has one writer', () => {
  const path = image()
  const writer = VirtioDisk.open(path)
  expect(codeOf(() => VirtioDisk.open(path))).toBe('EBUSY')
  expect(codeOf(() => VirtioDisk.open(path, { readOnly: true }))).toBe('EBUSY')
  writer.close()
  const [one, other] = [1, 2].map(() => VirtioDisk.open(path, { readOnly: true }))
  expect(codeOf(() => VirtioDisk.open(path))).toBe('EBUSY')
  one!.close()
  other!.close()
  VirtioDisk.open(path).close()
})

it('what cannot be a disk is refused', () => {
  expect(codeOf(() => VirtioDisk.open('/dev/null'))).toBe('EINVAL')
  expect(codeOf(() => VirtioDisk.open(folder))).toBe('EINVAL')
  expect(codeOf(() => VirtioDisk.open(join(folder, 'none')))).toBe('ENOENT')
  const path = image()
  for (const wrong of [
    { queues: 0 },
    { queues: 65 },
    { queueSize: 3 },
    { queueSize: 2048 },
    { serial: 'x'.repeat(21) },
    { logicalBlock: 256 },
    { physicalBlock: 1536 },
    { minimumIo: 100 },
  ] satisfies VirtioDiskOptions[]) {
    expect(
      codeOf(() => VirtioDisk.open(path, wrong)),
      JSON.stringify(wrong),
    ).toBe('ERR_OUT_OF_RANGE')
  }
  // Nothing holds it after all that.
  VirtioDisk.open(path).close()
})

it('a slow back end has no more requests than the queue has entries, and its errors reach the guest', async () => {
  let most = 0
  let now = 0
  const errors: unknown[] = []
  const backend: BlockBackend = {
    size: MIB,
    async read(offset, length) {
      most = Math.max(most, ++now)
      await sleep(1)
      now--
      if (offset === 4096) throw new Error('the server is gone')
      return new Uint8Array(length)
    },
  }
  const disk = new VirtioBlock(backend, { queueSize: 16, onError: (error) => errors.push(error) })
  await using driver = new BlockDriver(disk, { indirect: true, depth: 64 })
  const answers = await Promise.all(Array.from({ length: 64 }, (_, i) => driver.read(8 * i, 4096)))
  expect(answers.map(({ status }) => status)).toEqual(
    answers.map((_, i) => (i === 1 ? ioError : ok)),
  )
  expect(most).toBeLessThanOrEqual(16)
  expect(errors).toEqual([new Error('the server is gone')])
  expect((await driver.write(0, new Uint8Array(512))).status).toBe(ioError)
})
