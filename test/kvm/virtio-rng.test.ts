// A guest's driver feeds on the entropy device: both transports, both kinds of ring, with notifications
// that do not leave the kernel.

import { expect, test } from 'vitest'
import { VIRTIO_F, VirtioRng } from '../../src/devices/index.js'
import { EDGE_VECTOR, LEVEL_VECTOR, PUPPET_FREE_GPA, Puppet } from '../helpers/puppet.js'
import { initialize, MmioDriver, PciDriver } from '../helpers/virtio-driver.js'
import { type DriverRing, driverRing, ringLayout } from '../helpers/virtio-rings.js'

const ECAM_GPA = 0xe800_0000
const MMIO_GPA = 0xea00_0000
const IO_APIC_GPA = 0xfec0_0000
const BUFFER_GPA = PUPPET_FREE_GPA + 0x10_0000
const SIZE = 16
const ROUNDS = 40
const { version1, ringPacked, eventIdx, indirectDesc, inOrder } = VIRTIO_F
const ALL = version1 | ringPacked | eventIdx | indirectDesc | inOrder

/** Level-triggered, to the boot processor. */
async function routeIoApic(puppet: Puppet, pin: number, vector: number): Promise<void> {
  const set = async (register: number, value: number) => {
    await puppet.write(IO_APIC_GPA, 4, register)
    await puppet.write(IO_APIC_GPA + 0x10, 4, value)
  }
  await set(0x11 + 2 * pin, 0)
  await set(0x10 + 2 * pin, 0x8000 | vector)
}

const kinds = [
  ['pci', 'msi-x', ALL & ~ringPacked & ~inOrder],
  ['pci', 'msi-x', ALL],
  ['pci', 'intx', version1],
  ['pci', 'intx', version1 | ringPacked],
  ['mmio', 'level', ALL & ~ringPacked],
  ['mmio', 'level', ALL],
] as const

test.each(kinds)(
  'random bytes over %s, %s, features %s',
  async (transport, interrupt, wanted) => {
    await using puppet = await Puppet.start({
      devices: [{ device: new VirtioRng(), transport, packed: true, inOrder: true }],
    })
    const { memory } = puppet.machine
    const vector = interrupt === 'msi-x' ? EDGE_VECTOR : LEVEL_VECTOR
    const driver =
      transport === 'pci'
        ? await PciDriver.find(puppet, ECAM_GPA, 1)
        : new MmioDriver(puppet, MMIO_GPA)
    if (driver instanceof MmioDriver) {
      puppet.answerLevels(...driver.interruptRegisters)
      await routeIoApic(puppet, 20, vector)
    } else if (interrupt === 'msi-x') {
      await driver.useMsix(vector, 1)
      await driver.chooseVectors(1)
    } else {
      puppet.answerLevels(driver.at.isr, 0)
      await routeIoApic(puppet, 17, vector)
    }

    let ring!: DriverRing
    // A driver may set the device up again at any time.
    for (let round = 0; round < 2; round++) {
      const features = await initialize(driver, wanted, (agreed) => {
        const has = (bit: bigint) => (agreed & bit) !== 0n
        const layout = ringLayout(PUPPET_FREE_GPA, SIZE, {
          packed: has(ringPacked),
          eventIdx: has(eventIdx),
          inOrder: has(inOrder),
        })
        ring = driverRing(memory, layout)
        return [layout]
      })
      expect(features).toBe(wanted)
      expect(await driver.maxQueueSize(1)).toBe(0)
      if (driver instanceof PciDriver && interrupt === 'msi-x') await driver.chooseVectors(1)
      await feed(round * ROUNDS)
    }

    async function feed(seed: number): Promise<void> {
      const { statistics } = puppet.machine.vcpus[0]!
      const exits = statistics.total
      for (let i = 0; i < ROUNDS; i++) {
        const length = 1 + ((seed + i * 37) % 200)
        const gpa = BUFFER_GPA + i * 0x100
        memory.fill(gpa, 0x100)
        const table = i % 3 === 0 && (wanted & indirectDesc) !== 0n
        const before = puppet.interrupts(vector)
        const id = ring.add({
          writable: [
            { gpa, length: 1 },
            { gpa: gpa + 1, length },
          ],
          ...(table ? { tableGpa: BUFFER_GPA + 0x10_0000 } : {}),
        })
        if (ring.needsKick()) await driver.notify(0)
        await puppet.until('an interrupt', () => puppet.interrupts(vector) > before)
        let used = ring.takeUsed()
        // A level is sometimes seen again after it was answered.
        if (interrupt !== 'msi-x') {
          await puppet.until('a used buffer', () => {
            used ??= ring.takeUsed()
            return used !== undefined
          })
        }
        expect(used).toEqual({ id, length: length + 1 })
        expect(memory.isZero(gpa + length + 1, 0x100 - length - 1)).toBe(true)
      }
      expect(memory.isZero(BUFFER_GPA, ROUNDS * 0x100)).toBe(false)
      // An edge is raised once for each, and none is raised for nothing. Neither way leaves the kernel.
      if (interrupt === 'msi-x') {
        expect(puppet.interrupts(vector)).toBe(seed + ROUNDS)
        expect(statistics.total - exits).toBe(0)
      }
      // An edge is raised once for each, and none is raised for nothing. Neither way leaves the kernel.
      if (interrupt === 'msi-x') {
        expect(puppet.interrupts(vector)).toBe(seed + ROUNDS)
        expect(statistics.total - exits).toBe(0)
      }
    }
  },
  60_000,
)
