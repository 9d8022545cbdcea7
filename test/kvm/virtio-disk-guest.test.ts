// A guest's own driver on a disk over PCI: its notifications and the interrupts stay in the kernel, so a
// request costs no exit to this process.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { VIRTIO_BLK_F, VIRTIO_BLK_S, VIRTIO_BLK_T, VIRTIO_F } from '../../src/devices/index.js'
import { VirtioDisk } from '../../src/index.js'
import { EDGE_VECTOR, PUPPET_FREE_GPA, Puppet } from '../helpers/puppet.js'
import { initialize, PciDriver } from '../helpers/virtio-driver.js'
import { type DriverRing, driverRing, ringLayout } from '../helpers/virtio-rings.js'

const ECAM_GPA = 0xe800_0000
const HEADER_GPA = PUPPET_FREE_GPA + 0x10_0000
const STATUS_GPA = HEADER_GPA + 16
const DATA_GPA = HEADER_GPA + 0x1000
const SIZE = 0x10_0000
const folder = mkdtempSync(join(tmpdir(), 'node-kvm-disk-guest-'))
afterAll(() => rmSync(folder, { recursive: true }))

test.each([
  { name: 'split', packed: false },
  { name: 'packed', packed: true },
])('reads and writes through a $name queue without an exit', async ({ name, packed }) => {
  const path = join(folder, `${name}.img`)
  writeFileSync(path, Buffer.alloc(SIZE, 5))
  const disk = VirtioDisk.open(path)
  await using puppet = await Puppet.start({ devices: [{ device: disk, packed }] })
  const { memory, vcpus } = puppet.machine
  const driver = await PciDriver.find(puppet, ECAM_GPA, 1)
  await driver.useMsix(EDGE_VECTOR, 1)
  await driver.chooseVectors(1)
  let ring!: DriverRing
  const wanted =
    VIRTIO_F.version1 | VIRTIO_F.eventIdx | VIRTIO_BLK_F.flush | (packed ? VIRTIO_F.ringPacked : 0n)
  const agreed = await initialize(driver, wanted, () => {
    const layout = ringLayout(PUPPET_FREE_GPA, 16, { packed, eventIdx: true })
    ring = driverRing(memory, layout)
    return [layout]
  })
  expect(agreed).toBe(wanted)
  await driver.chooseVectors(1)

  const request = async (type: number, sector: number, length: number) => {
    memory.writeU32(HEADER_GPA, type)
    memory.writeU64(HEADER_GPA + 8, BigInt(sector))
    memory.writeU8(STATUS_GPA, 0xff)
    const header = { gpa: HEADER_GPA, length: 16 }
    const status = { gpa: STATUS_GPA, length: 1 }
    const data = { gpa: DATA_GPA, length }
    const isRead = type === VIRTIO_BLK_T.in
    ring.add({
      readable: isRead || length === 0 ? [header] : [header, data],
      writable: isRead ? [data, status] : [status],
    })
    const before = puppet.interrupts(EDGE_VECTOR)
    if (ring.needsKick()) await driver.notify(0)
    await puppet.until('an interrupt', () => puppet.interrupts(EDGE_VECTOR) > before)
    expect(ring.takeUsed()?.length).toBe(isRead ? length + 1 : 1)
    expect(memory.readU8(STATUS_GPA)).toBe(VIRTIO_BLK_S.ok)
  }

  const exits = () => vcpus[0]!.statistics.total
  const before = exits()
  for (let i = 0; i < 20; i++) {
    memory.fill(DATA_GPA, 4096, i)
    await request(VIRTIO_BLK_T.out, i * 8, 4096)
    memory.fill(DATA_GPA, 4096)
    await request(VIRTIO_BLK_T.in, i * 8, 4096)
    expect(memory.readU8(DATA_GPA + 4095)).toBe(i)
  }
  await request(VIRTIO_BLK_T.flush, 0, 0)
  expect(exits() - before).toBe(0)
  expect(disk.statistics).toMatchObject({ reads: 20, writes: 20, flushes: 1, errors: 0 })
  expect(disk.statistics.wakeups).toBe(41)
})
