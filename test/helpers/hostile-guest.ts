// A guest that does its worst to the machine's devices: random accesses, aimed at what acts.

import {
  type BusDevice,
  MsiCapability,
  MsixCapability,
  PciFunction,
} from '../../src/devices/index.js'
import { Machine, MachineCrash } from '../../src/index.js'
import { Dice } from './dice.js'
import { image, layout } from './guests/hostile.js'

const ECAM = 0xe800_0000
const MEMORY = 0x40_0000
const LAST = 0x20_0000

/** BARs of all kinds, MSI-X and MSI; a write raises an interrupt that the value chooses. */
function addFunction(machine: Machine, slot: number): void {
  const create = machine.messageInterrupt
  const msix = new MsixCapability({ vectors: 8, barIndex: 1, create })
  const msi = new MsiCapability({ vectors: 4, create })
  const made: PciFunction = new PciFunction({
    name: `hostile ${slot}`,
    vendorId: 0x1234,
    deviceId: slot,
    classCode: 0xff_0000,
    hasInterruptPin: true,
    bars: [
      { kind: 'io', size: 32, device: deviceOf() },
      msix.bar,
      { kind: 'memory64', size: 0x4000, device: deviceOf() },
      undefined,
      { kind: 'memory32', size: 0x1000, device: deviceOf() },
    ],
    capabilities: [msix, msi],
  })
  function deviceOf(): BusDevice {
    return {
      name: `hostile ${slot}`,
      read: (offset) => offset,
      write: (_offset, _size, value) => {
        msix.signal(value & 7)
        msi.signal(value & 3)
        made.interrupt.set((value & 8) !== 0)
      },
    }
  }
  machine.pci.add(slot, made)
}

/** Addresses that decide something, and their neighbours. */
function interesting(dice: Dice): number {
  const slot = dice.of([0, 1, 2, 3, 4, 31])
  switch (dice.below(6)) {
    case 0:
      return ECAM + slot * 0x8000 + dice.of([4, 6, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x34, 0x3c])
    case 1:
      return ECAM + slot * 0x8000 + 0x40 + dice.below(0x40)
    case 2:
      return ECAM + dice.below(0x10_0000)
    case 3:
      return 0xc000_0000 + dice.below(0x1_0000)
    case 4:
      return 0x28_0000 + dice.below(0x1000)
    default:
      return dice.of([0xa_0000, 0xd000_0000, 0xe7ff_fffe, 0xfeff_fffc, 0xffff_fff8])
  }
}

function port(dice: Dice): number {
  const base = dice.of([0x20, 0x40, 0x60, 0x70, 0x505, 0x510, 0x600, 0x620, 0xcf8, 0xcf8, 0x1000])
  return dice.below(50) === 0 ? dice.below(0x1_0000) : base + dice.below(16)
}

function value(dice: Dice): number {
  switch (dice.below(5)) {
    case 0:
      return interesting(dice)
    case 1:
      return dice.of([0, 1, 2, 3, 6, 7, 0x400, 0x8000, 0xc000, 0xffff_ffff, 0x0019_000a])
    case 2:
      return 0x8000_0000 + dice.below(0x2000)
    case 3:
      // A message to this processor or to none: fixed delivery, any vector.
      return dice.of([0xfee0_0000, 0xfee0_1000, 0x40 + dice.below(0x80)])
    default:
      return dice.any()
  }
}

// The debug exit, the power-off and the resets would only end it early, pvpanic too.
const ENDS = new Set([0xf4, 0xf5, 0xf6, 0xf7, 0x505, 0x604, 0x605, 0xcf9, 0x64, 0x92])

/** Kinds of access, as the guest numbers them. */
const KIND = { out: { 1: 1, 2: 2, 4: 3 }, write: { 1: 7, 2: 8, 4: 9 }, strings: 13 } as const
type Access = readonly [kind: number, address: number, value: number]

/** Few places, so that BARs meet each other, RAM, configuration space and what is beyond. */
function barAddress(dice: Dice): number {
  const crowded = 0xc000_0000 + dice.below(8) * 0x1000
  return dice.below(4) > 0 ? crowded : dice.of([0, 0x20_0000, ECAM, 0xfebf_f000, 0xffff_f000])
}

const PORT_BARS = [0x1001, 0x1021, 0x1041, 0x3f9, 0x601, 0xcf9, 0xffe1]
const swap = (value: number) => Buffer.from(Uint32Array.of(value).buffer).readUInt32BE()

/** Sensible steps of a driver, in no sensible order. */
function aimed(dice: Dice): Access[] {
  const config = ECAM + (1 + dice.below(3)) * 0x8000
  switch (dice.below(9)) {
    case 0:
      return [[KIND.write[2], config + 4, dice.of([0, 3, 6, 7, 7, 7, 0x407])]]
    case 1:
      return [[KIND.write[4], config + dice.of([0x14, 0x18, 0x20]), barAddress(dice)]]
    case 2:
      return [[KIND.write[4], config + 0x10, dice.of(PORT_BARS)]]
    case 3:
      return [[KIND.write[2], config + 0x42, dice.of([0, 0x8000, 0x8000, 0x8000, 0xc000])]]
    case 4:
      return [[KIND.write[2], config + 0x4e, dice.of([0, 0x01, 0x11, 0x21, 0x71])]]
    case 5:
      return [[7 + dice.below(6), 0xc000_0000 + dice.below(0x9000), value(dice)]]
    case 6:
      return [[KIND.out[dice.of([1, 2, 4] as const)], 0x1000 + dice.below(0x60), value(dice)]]
    case 7: {
      const register = 0x8000_0000 + dice.below(4) * 0x800 + dice.below(64) * 4
      return [
        [KIND.out[4], 0xcf8, register],
        [1 + dice.below(6), 0xcfc + dice.below(4), value(dice)],
      ]
    }
    default: {
      const request = 0x28_1000
      const target = dice.of([0x28_2000, 0x3f_fff0, MEMORY, 0xfff0_0000])
      const words = [
        swap(dice.of([0x19_000a, 0x20_000a, 0x0a, 0x04, 0x10, 0x19_0018])),
        swap(dice.of([0, 16, 4096, 0xffff_ffff])),
        dice.of([0, 0, 0, 0xff00_0000]),
        swap(target),
      ]
      return [
        ...words.map((word, i): Access => [KIND.write[4], request + i * 4, word]),
        [KIND.out[4], 0x518, swap(dice.below(8) > 0 ? request : dice.any())],
      ]
    }
  }
}

function wild(dice: Dice): Access {
  const kind = 1 + dice.below(KIND.strings)
  const isPort = kind <= 6 || kind === KIND.strings
  let address = isPort ? port(dice) : interesting(dice)
  // One access in a thousand may end the run all the same.
  while (isPort && ENDS.has(address) && dice.below(1000) > 0) address = port(dice)
  return [kind, address, value(dice)]
}

/** The list for the guest: kind, address, value, zero. */
function script(seed: number, count: number): Uint32Array {
  const dice = new Dice(seed)
  const accesses: Access[] = []
  while (accesses.length < count) {
    accesses.push(...(dice.below(4) > 0 ? aimed(dice) : [wild(dice)]))
  }
  const words = new Uint32Array((count + 1) * 4)
  accesses.slice(0, count).forEach((access, i) => {
    words.set(access, i * 4)
  })
  return words
}

/** How the machine came to an end. */
export type HostileEnd = 'exit' | 'reset' | 'powerOff' | 'stopped' | 'guest crash'

/**
 * Lets the guest do `count` accesses.
 *
 * @throws what no guest may cause: an exception of a device, an error of KVM
 */
export async function runHostileGuest(seed: number, count: number): Promise<HostileEnd> {
  if (count * 16 + layout.parameters > LAST) throw new RangeError(`too many accesses: ${count}`)
  await using machine = await Machine.create({
    cpus: 2,
    memory: MEMORY,
    boot: { flat: image, gpa: layout.gpa, entry: layout.start, mode: 'protected' },
  })
  for (const slot of [1, 2, 3]) addFunction(machine, slot)
  const words = script(seed, count)
  machine.memory.write(layout.parameters, new Uint8Array(words.buffer))
  // What it writes to its own code or IDT is its own affair, and it may wait forever.
  const patience = setTimeout(() => machine.stop(), 10_000)
  try {
    return (await machine.run()).reason
  } catch (error) {
    if (error instanceof MachineCrash && error.code === 'ERR_KVM_GUEST_CRASH') return 'guest crash'
    throw error
  } finally {
    clearTimeout(patience)
  }
}
