import { afterEach, describe, expect, it } from 'vitest'
import { VirtioBalloon } from '../../src/devices/balloon/virtio-balloon.js'
import { DeviceDriver, type DeviceDriverOptions } from '../helpers/device-driver.js'

const [INFLATE, DEFLATE, STATISTICS, HINT, REPORT] = [0, 1, 2, 3, 4] as const
const MIB = 0x10_0000
const PAGE = 4096
const F_PAGE_POISON = 1n << 4n
const F_FREE_PAGE_HINT = 1n << 3n
const ACTUAL = 4
const HINT_ID = 8
const POISON = 12

let driver: DeviceDriver
afterEach(() => driver[Symbol.dispose]())

function start(options?: DeviceDriverOptions): VirtioBalloon {
  const balloon = new VirtioBalloon()
  driver = new DeviceDriver(balloon, options)
  return balloon
}

const words = (...numbers: number[]) => Buffer.from(Uint32Array.from(numbers).buffer)

/** Pages that no queue is in, touched. */
function touched(count: number): { gpa: number; size: number } {
  const gpa = driver.memory.size - count * PAGE
  driver.memory.fill(gpa, count * PAGE, 0x5a)
  return { gpa, size: count * PAGE }
}

const pagesOf = ({ gpa, size }: { gpa: number; size: number }) =>
  words(...Array.from({ length: size / PAGE }, (_, i) => gpa / PAGE + i).reverse())
const resident = ({ gpa, size }: { gpa: number; size: number }) =>
  driver.memory.residency(gpa, size).count

describe('inflation', () => {
  it('gives the pages that the guest names back to the host', () => {
    const balloon = start()
    const range = touched(512)
    const others = touched(513)
    driver.send(INFLATE, [pagesOf(range)])
    expect(resident(range)).toBe(0)
    expect(resident(others)).toBe(1)
    expect(driver.memory.isZero(range.gpa, range.size)).toBe(true)
    expect(balloon.released).toEqual({ inflated: 2 * MIB, reported: 0, refused: 0 })
    driver.send(DEFLATE, [pagesOf(range)])
    expect([driver.used(INFLATE).length, driver.used(DEFLATE).length]).toEqual([1, 1])
  })

  it('leaves out what is not RAM, and what is named twice', () => {
    const balloon = start()
    const { gpa } = touched(1)
    const page = gpa / PAGE
    driver.send(INFLATE, [words(0xffff_ffff, page, page, driver.memory.size / PAGE, page)])
    expect(balloon.released.inflated).toBe(PAGE)
    expect(driver.failures).toEqual([])
  })

  it('is asked for by a target, which the driver follows', async () => {
    const balloon = start()
    balloon.target = 10 * MIB + 1
    expect(balloon.target).toBe(10 * MIB)
    expect(balloon.readConfig(0, 4)).toBe((10 * MIB) / PAGE)
    expect(driver.configChanges).toBe(1)
    const reached = balloon.reached()
    balloon.writeConfig(ACTUAL, 4, 100)
    expect(balloon.actual).toBe(100 * PAGE)
    balloon.writeConfig(ACTUAL, 4, 2560)
    await reached
    await balloon.reached()
  })

  it('may be waited for only so long', async () => {
    const balloon = start()
    balloon.target = MIB
    const abort = new AbortController()
    const reached = balloon.reached({ signal: abort.signal })
    abort.abort(new Error('too long'))
    await expect(reached).rejects.toThrow('too long')
    await expect(balloon.reached({ signal: abort.signal })).rejects.toThrow('too long')
    expect(() => {
      balloon.target = -1
    }).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }))
  })
})

describe('free page reporting', () => {
  it('gives reported pages back, whole ones only', () => {
    const balloon = start()
    const range = touched(16)
    driver.send(REPORT, [], [{ gpa: range.gpa + 1, length: 4 * PAGE }])
    expect(balloon.released.reported).toBe(3 * PAGE)
    expect(resident(range)).toBe(13)
    expect(driver.used(REPORT)).toHaveLength(1)
  })

  it('leaves poisoned pages alone', () => {
    const balloon = start()
    balloon.writeConfig(POISON, 4, 0xaaaa_aaaa)
    const page = { gpa: touched(1).gpa, length: PAGE }
    driver.send(REPORT, [], [page])
    expect(balloon.released.reported).toBe(0)
    balloon.writeConfig(POISON, 4, 0)
    driver.send(REPORT, [], [page])
    expect(balloon.released.reported).toBe(PAGE)
  })

  it('is found by a driver that counts only the queues it uses', () => {
    const features = new VirtioBalloon().deviceFeatures & ~F_FREE_PAGE_HINT
    const balloon = start({ features, queues: [0, 1, 2, 3] })
    driver.send(3, [], [{ gpa: 0x10_0000, length: PAGE }])
    expect(balloon.released.reported).toBe(PAGE)
  })
})

describe('free page hints', () => {
  const id = (balloon: VirtioBalloon) => balloon.readConfig(HINT_ID, 4)

  it('are asked for, and told from those of another question', async () => {
    const balloon = start()
    driver.send(HINT, [], [PAGE])
    const pages = balloon.freePages()
    driver.send(HINT, [words(id(balloon) - 1)])
    driver.send(HINT, [], [PAGE])
    driver.send(HINT, [words(id(balloon))])
    driver.send(HINT, [], [3 * PAGE])
    driver.send(HINT, [words(0)])
    const { ranges, release } = await pages
    expect(ranges.map(({ size }) => size)).toEqual([3 * PAGE])
    release()
    expect(id(balloon)).toBe(1)
    expect(driver.used(HINT)).toHaveLength(6)
  })

  it('are refused where no driver gives them, and end with the driver', async () => {
    const balloon = start()
    const pages = balloon.freePages()
    const refused = expect(pages).rejects.toMatchObject({ code: 'ERR_KVM_NO_DRIVER' })
    await driver.reset()
    await refused
    await expect(balloon.freePages()).rejects.toMatchObject({ code: 'ERR_KVM_NO_DRIVER' })
  })

  it('are bounded, whatever the driver names', async () => {
    const balloon = start()
    const pages = balloon.freePages()
    driver.send(HINT, [words(id(balloon))])
    for (let i = 0; i < 1200; i++) {
      driver.send(HINT, [], new Array(60).fill(PAGE))
      driver.used(HINT)
    }
    driver.send(HINT, [words(0)])
    expect((await pages).ranges.length).toBeLessThanOrEqual(0x1_0000)
  })
})

describe('statistics', () => {
  const entry = (tag: number, value: bigint) => {
    const bytes = Buffer.alloc(10)
    bytes.writeUInt16LE(tag)
    bytes.writeBigUInt64LE(value, 2)
    return bytes
  }

  it('come when they are asked for', async () => {
    const balloon = start()
    driver.send(STATISTICS, [entry(4, 1n)])
    expect(driver.used(STATISTICS)).toEqual([])
    const both = Promise.all([balloon.statistics(), balloon.statistics()])
    expect(driver.used(STATISTICS)).toHaveLength(1)
    driver.send(STATISTICS, [Buffer.concat([entry(4, 2n ** 40n), entry(99, 3n), entry(5, 4n)])])
    const expected = { freeMemory: 2n ** 40n, totalMemory: 4n }
    expect(await both).toEqual([expected, expected])
  })

  it('may be asked for before the driver has a buffer', async () => {
    const balloon = start()
    const statistics = balloon.statistics()
    driver.send(STATISTICS, [entry(0, 7n)])
    expect(await statistics).toEqual({ swapIn: 7n })
  })

  it('wait while the machine is paused', async () => {
    const balloon = start()
    driver.send(STATISTICS, [entry(4, 1n)])
    await balloon.pause()
    const statistics = balloon.statistics()
    expect(driver.used(STATISTICS)).toEqual([])
    balloon.resume()
    expect(driver.used(STATISTICS)).toHaveLength(1)
    driver.send(STATISTICS, [entry(4, 2n)])
    expect(await statistics).toEqual({ freeMemory: 2n })
  })

  it('end with the driver', async () => {
    const balloon = start()
    const refused = expect(balloon.statistics()).rejects.toMatchObject({
      code: 'ERR_KVM_NO_DRIVER',
    })
    await driver.reset()
    await refused
    await expect(balloon.statistics()).rejects.toMatchObject({ code: 'ERR_KVM_NO_DRIVER' })
  })
})

it.each([
  ['a list of pages without end', () => driver.send(INFLATE, [Buffer.alloc(4100)])],
  ['statistics without end', () => driver.send(STATISTICS, [Buffer.alloc(5000)])],
  ['statistics twice', () => [1, 2].map(() => driver.send(STATISTICS, [Buffer.alloc(10)]))],
  ['a command too short', () => driver.send(HINT, [Buffer.alloc(3)])],
])('a driver fails the device: %s', (_what, act) => {
  start()
  act()
  expect(driver.failures).toHaveLength(1)
  expect(driver.failures[0]).toMatchObject({ code: 'ERR_KVM_VIRTQUEUE' })
})

it('offers what a guest may do without memory only if that is wanted', () => {
  driver = new DeviceDriver(new VirtioBalloon({ deflateOnOom: false }))
  expect(driver.device.deviceFeatures & 4n).toBe(0n)
  expect(new VirtioBalloon().deviceFeatures & (4n | F_PAGE_POISON)).toBe(4n | F_PAGE_POISON)
})
