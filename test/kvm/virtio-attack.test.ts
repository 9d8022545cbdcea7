// A hostile driver in a guest, with doorbells and interrupts as they are in a machine. HOSTILE_SECONDS
// makes it last, from the seed HOSTILE_SEED on.

import { expect, test } from 'vitest'
import { VirtqueueError } from '../../src/devices/index.js'
import { MachineCrash } from '../../src/index.js'
import { Dice } from '../helpers/dice.js'
import { PUPPET_FREE_GPA, Puppet } from '../helpers/puppet.js'
import { attack, LateEcho, provesHealthy } from '../helpers/virtio-attack.js'
import { MmioDriver, PciDriver } from '../helpers/virtio-driver.js'

const seconds = Number(process.env.HOSTILE_SECONDS ?? 0)
const firstSeed = Number(process.env.HOSTILE_SEED ?? 1)
const ECAM_GPA = 0xe800_0000
const MMIO_GPA = 0xea00_0000
const ROUNDS = 1
const STEPS = 250

/** What became of the guest: devices may write where its code is, if it says so. */
type End = 'healthy' | 'guest crash'

async function round(seed: number): Promise<{ end: End; failures: number }> {
  const more = { packed: true, inOrder: true }
  await using puppet = await Puppet.start({
    devices: [
      { device: new LateEcho(), ...more },
      { device: new LateEcho(), transport: 'mmio', ...more },
      { device: new LateEcho(), transport: 'mmio', ...more },
    ],
  })
  const { machine } = puppet
  const errors: unknown[] = []
  machine.on('deviceFailed', (_, error) => errors.push(error))
  const crash = puppet.ended.then(
    (end): never => {
      throw new Error(`the guest ended by itself: ${end.reason}`)
    },
    (error): End => {
      if (error instanceof MachineCrash && error.code === 'ERR_KVM_GUEST_CRASH')
        return 'guest crash'
      throw error
    },
  )
  const end = await Promise.race([crash, play(puppet, seed)])
  crash.catch(() => {})
  for (const error of errors) expect(error).toBeInstanceOf(VirtqueueError)
  return { end, failures: errors.length }
}

async function play(puppet: Puppet, seed: number): Promise<End> {
  const { memory } = puppet.machine
  const common = { access: puppet, memory }
  const pci = await PciDriver.find(puppet, ECAM_GPA, 1)
  const targets = [
    {
      ...common,
      driver: pci,
      registers: [
        { gpa: pci.at.common, size: 0x4000 },
        { gpa: pci.at.common, size: 0x40 },
      ],
      gpa: PUPPET_FREE_GPA,
    },
    {
      ...common,
      driver: new MmioDriver(puppet, MMIO_GPA),
      registers: [{ gpa: MMIO_GPA, size: 0x120 }],
      gpa: PUPPET_FREE_GPA + 0x1_0000,
    },
  ]
  const bystander = {
    ...common,
    driver: new MmioDriver(puppet, MMIO_GPA + 0x1000),
    registers: [],
    gpa: PUPPET_FREE_GPA + 0x8_0000,
  }
  const until = (what: string, isSo: () => boolean) => puppet.until(what, isSo)
  for (const [i, target] of targets.entries()) {
    await attack(new Dice(seed * 2 + i), target, STEPS)
    await provesHealthy(bystander, until)
    await provesHealthy(target, until)
  }
  return 'healthy'
}

test(
  'hostile drivers fail alone',
  async () => {
    const until = Date.now() + seconds * 1000
    const ends: Record<End, number> = { healthy: 0, 'guest crash': 0 }
    let failures = 0
    for (let i = 0; i < ROUNDS || Date.now() < until; i++) {
      const result = await round(firstSeed + i).catch((cause) => {
        throw new Error(`seed ${firstSeed + i}`, { cause })
      })
      ends[result.end]++
      failures += result.failures
    }
    if (seconds > 0) console.log(ends, failures)
    expect(ends.healthy).toBeGreaterThan(0)
    expect(failures).toBeGreaterThan(0)
  },
  120_000 + seconds * 1000,
)
