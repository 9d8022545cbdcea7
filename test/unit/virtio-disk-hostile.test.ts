// A driver that writes anything anywhere into its queues and requests while native threads serve them,
// resets, pauses and sets up again: bounded and seeded. HOSTILE_SEED picks the first round, HOSTILE_SECONDS
// how long.
// The device may end in NEEDS_RESET; it must not end the process, hang, leave its file, or disturb another.
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, expect, it } from 'vitest'
import { VIRTIO_BLK_S } from '../../src/devices/index.js'
import { VirtioDisk } from '../../src/index.js'
import { BlockDriver } from '../helpers/block-driver.js'
import { Dice } from '../helpers/dice.js'

const MIB = 0x10_0000
const ROUNDS = 60
const seconds = Number(process.env.HOSTILE_SECONDS ?? 0)
const firstSeed = Number(process.env.HOSTILE_SEED ?? 20261129)
const ACTIONS = 80
const TYPES = [0, 1, 4, 8, 11, 13, 5, 0xffff_ffff]
const folder = mkdtempSync(join(tmpdir(), 'node-kvm-disk-hostile-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** One driver's life. */
async function attack(path: string, dice: Dice): Promise<void> {
  const below = (limit: number) => dice.below(limit)
  const pick = <T>(choices: readonly T[]) => dice.of(choices)
  const queueSize = pick([4, 8, 16])
  const disk = VirtioDisk.open(path, { queueSize, engine: pick(['auto', 'threads']) })
  await using driver = new BlockDriver(disk, {
    ...{ queueSize, depth: 8, packed: below(2) === 1, eventIdx: below(2) === 1 },
    indirect: below(2) === 1,
    inOrder: below(4) === 0,
  })
  // It sees itself what is wrong with its rings.
  driver.offInterrupts()
  const { memory, rings } = driver
  const { descGpa, driverGpa, deviceGpa } = rings[0]!.layout
  const area = 4 * MIB
  const number = () => pick([0, 1, 2, 3, 4, 16, 512, 513, 0xffff, 0x8000, below(0x1_0000)])
  const address = () => pick([area, area + 0x1000 * below(16), memory.size - 1, 2 ** 40, descGpa])
  const descriptor = (gpa: number) => {
    memory.writeU64(gpa, pick([BigInt(address()), 2n ** 64n - 1n, 2n ** 63n]))
    memory.writeU32(gpa + 8, pick([16, 1, 0, 512, 4096, 0xffff_ffff, 0x10_0000, below(0x1_0000)]))
    memory.writeU16(gpa + 12, number())
    memory.writeU16(gpa + 14, number())
  }
  /** Plausible, so that it gets far. */
  const request = () => {
    memory.writeU32(area, pick(TYPES))
    memory.writeU64(area + 8, pick([0n, 1n, 2047n, 2048n, 2n ** 55n, 2n ** 64n - 1n]))
    memory.writeU32(area + 0x1008, pick([0, 1, 8, 0xffff_ffff]))
    const parts = Array.from({ length: below(3) }, () => {
      return { gpa: area + 0x1000, length: pick([16, 512, 4096, 65536, 513]) }
    })
    const header = { gpa: area, length: pick([16, 16, 16, 8]) }
    const status = { gpa: area + 0x100, length: pick([1, 1, 1, 512]) }
    const isRead = below(2) === 1
    rings[0]!.add({
      readable: isRead ? [header] : [header, ...parts],
      writable: isRead ? [...parts, status] : [status],
      ...(below(3) === 0 ? { tableGpa: area + 0x200 } : {}),
    })
  }
  for (let i = 0; i < ACTIONS; i++) {
    switch (below(8)) {
      case 0:
      case 1:
      case 2:
        request()
        break
      case 3:
        descriptor(descGpa + 16 * below(queueSize))
        break
      case 4:
        descriptor(area + 0x200 + 16 * below(8))
        break
      case 5:
        memory.writeU16(driverGpa + 2 * below(queueSize + 3), number())
        break
      case 6:
        memory.writeU16(deviceGpa + 2 * below(4 * queueSize), number())
        break
      default:
        if (below(4) === 0) await sleep(1)
    }
    driver.kick()
    if (below(40) === 0) {
      await disk.pause()
      disk.resume()
    }
  }
}

it(
  'hostile drivers: the other disk and the files are well',
  async () => {
    const path = join(folder, 'victim.img')
    const other = join(folder, 'other.img')
    writeFileSync(path, Buffer.alloc(MIB, 1))
    writeFileSync(other, Buffer.alloc(MIB, 2))
    await using honest = new BlockDriver(VirtioDisk.open(other))
    const until = Date.now() + seconds * 1000
    let round = 0
    for (; round < ROUNDS || Date.now() < until; round++) {
      const dice = new Dice(firstSeed + round)
      await attack(path, dice).catch((cause) => {
        throw new Error(`seed ${firstSeed + round}`, { cause })
      })
      const sector = dice.below(2048)
      const data = Buffer.alloc(512, round)
      expect((await honest.write(sector, data)).status).toBe(VIRTIO_BLK_S.ok)
      expect(Buffer.compare((await honest.read(sector, 512)).data, data)).toBe(0)
    }
    if (seconds > 0) console.log(`${round} rounds`)
    expect(statSync(path).size).toBe(MIB)
    expect(readFileSync(other).length).toBe(MIB)
    expect(honest.failures).toEqual([])
  },
  120_000 + seconds * 1000,
)
