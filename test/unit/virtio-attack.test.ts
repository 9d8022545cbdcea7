// Hostile drivers against devices on buses of a test: many steps, quickly. HOSTILE_SECONDS makes it
// last, from the seed HOSTILE_SEED on.

import { expect, test } from 'vitest'
import { VirtqueueError } from '../../src/devices/index.js'
import { TestMemory } from '../helpers/device-memory.js'
import { Dice } from '../helpers/dice.js'
import { attack, LateEcho, provesHealthy } from '../helpers/virtio-attack.js'
import { MmioDriver, PciDriver } from '../helpers/virtio-driver.js'
import { HOST_ECAM_GPA, HOST_MMIO_GPA, TestHost } from '../helpers/virtio-host.js'

const seconds = Number(process.env.HOSTILE_SECONDS ?? 0)
const firstSeed = Number(process.env.HOSTILE_SEED ?? 1)
const ROUNDS = 30
const STEPS = 2000
const BYSTANDER_GPA = 0x8_0000
const ALL = { packed: true, inOrder: true }

const kindOf = (error: unknown) => String(error).replace(/0x[0-9a-f]+|\d+/g, 'N')

async function round(transport: 'pci' | 'mmio', seed: number): Promise<string[]> {
  const host = new TestHost(new TestMemory(0x10_0000))
  const { memory } = host
  const victim = transport === 'pci' ? host.addPci(1, new LateEcho(), ALL) : undefined
  if (transport === 'mmio') host.addMmio(new LateEcho(), ALL)
  host.addMmio(new LateEcho(), ALL)
  host.pci.assignBars()
  const pci = victim && (await PciDriver.find(host, HOST_ECAM_GPA, 1))
  const bystanderGpa = HOST_MMIO_GPA + (pci ? 0 : 0x1000)
  const target = {
    access: host,
    memory,
    driver: pci ?? new MmioDriver(host, HOST_MMIO_GPA),
    registers: pci
      ? [
          { gpa: pci.at.common, size: 0x40 },
          { gpa: pci.at.common, size: 0x4000 },
          { gpa: pci.at.msixTable, size: 0x40 },
          { gpa: HOST_ECAM_GPA + 0x8000 + pci.at.accessAt, size: 20 },
        ]
      : [{ gpa: HOST_MMIO_GPA, size: 0x120 }],
    gpa: 0x1_0000,
  }
  const bystander = { ...target, driver: new MmioDriver(host, bystanderGpa), gpa: BYSTANDER_GPA }
  await attack(new Dice(seed), target, STEPS)
  for (const { error } of host.failures) expect(error).toBeInstanceOf(VirtqueueError)
  const until = (what: string, isSo: () => boolean) => host.until(what, isSo)
  await provesHealthy(bystander, until)
  await provesHealthy(target, until)
  await target.driver.writeStatus(0)
  await bystander.driver.writeStatus(0)
  // Nothing is left of all the times it was set up.
  expect(host.doorbellCount).toBe(0)
  return host.failures.map(({ error }) => kindOf(error))
}

test.each(['pci', 'mmio'] as const)(
  'a device over %s survives, and others do not notice',
  async (transport) => {
    const until = Date.now() + (seconds * 1000) / 2
    const kinds = new Map<string, number>()
    for (let i = 0; i < ROUNDS || Date.now() < until; i++) {
      const failures = await round(transport, firstSeed + i).catch((cause) => {
        throw new Error(`seed ${firstSeed + i}`, { cause })
      })
      for (const kind of failures) kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
    }
    if (seconds > 0) console.log(kinds)
    // Attacks hit most of what is checked, or nothing much was tried.
    expect(kinds.size).toBeGreaterThan(10)
  },
  60_000 + seconds * 1000,
)
