// A guest whose driver is the test: it makes the accesses that it is asked for and counts interrupts.

import { setImmediate } from 'node:timers/promises'
import { Machine, type MachineEnd, type MachineOptions } from '../../src/index.js'
import { image, layout } from './guests/puppet.js'

/** Accesses of a driver to its device, by whatever way. */
export interface GuestAccess {
  read(gpa: number, size: 1 | 2 | 4): Promise<number>
  write(gpa: number, size: 1 | 2 | 4, value: number): Promise<void>
}

const KIND = {
  leave: 0,
  out: { 1: 1, 2: 2, 4: 3 },
  in: { 1: 4, 2: 5, 4: 6 },
  write: { 1: 7, 2: 8, 4: 9 },
  read: { 1: 10, 2: 11, 4: 12 },
} as const
const AT = { request: 0, done: 4, kind: 8, address: 12, value: 16, status: 20, ack: 24, seen: 28 }
const COUNTERS = 0x40
const PATIENCE_MS = 30_000

/** Vectors that the guest counts: edges from here on, levels from the other. */
export const EDGE_VECTOR = 0x40
/** Of a level-triggered vector the guest reads a status register, see {@link Puppet.answerLevels}. */
export const LEVEL_VECTOR = 0x50

/** Free for rings and buffers of the test, up to the end of RAM. */
export const PUPPET_FREE_GPA = 0x20_0000

/** A running machine with that guest. */
export class Puppet implements GuestAccess, AsyncDisposable {
  readonly machine: Machine
  readonly ended: Promise<MachineEnd>
  #request = 0
  #last: Promise<unknown> = Promise.resolve()

  private constructor(machine: Machine) {
    this.machine = machine
    this.ended = machine.run()
    // Who waits for it hears of it; nobody has to.
    this.ended.catch(() => {})
  }

  /** Starts one with 16 MiB; `prepare` may put devices on the machine's buses before it runs. */
  static async start(
    options: Partial<MachineOptions> = {},
    prepare: (machine: Machine) => void = () => {},
  ): Promise<Puppet> {
    const { gpa, start: entry } = layout
    const boot = { flat: image, gpa, entry, mode: 'protected' } as const
    const machine = await Machine.create({ memory: '16M', boot, ...options })
    prepare(machine)
    return new Puppet(machine)
  }

  read(gpa: number, size: 1 | 2 | 4): Promise<number> {
    return this.#ask(KIND.read[size], gpa, 0)
  }

  async write(gpa: number, size: 1 | 2 | 4, value: number): Promise<void> {
    await this.#ask(KIND.write[size], gpa, value)
  }

  /** Reads a port. */
  in(port: number, size: 1 | 2 | 4): Promise<number> {
    return this.#ask(KIND.in[size], port, 0)
  }

  /** Writes a port. */
  async out(port: number, size: 1 | 2 | 4, value: number): Promise<void> {
    await this.#ask(KIND.out[size], port, value)
  }

  /** How often a vector arrived. */
  interrupts(vector: number): number {
    return this.machine.memory.readU32(layout.parameters + COUNTERS + (vector - EDGE_VECTOR) * 4)
  }

  /** What the handler of level-triggered vectors reads, and where it writes that back to; 0: nowhere. */
  answerLevels(statusGpa: number, acknowledgeGpa: number): void {
    this.machine.memory.writeU32(layout.parameters + AT.ack, acknowledgeGpa)
    this.machine.memory.writeU32(layout.parameters + AT.status, statusGpa)
  }

  /** All bits that were read of the status so far. */
  get statusSeen(): number {
    return this.machine.memory.readU32(layout.parameters + AT.seen)
  }

  /** Resolves when something is so. */
  async until(what: string, isSo: () => boolean): Promise<void> {
    const deadline = Date.now() + PATIENCE_MS
    while (!isSo()) {
      if (Date.now() > deadline) throw new Error(`waited too long: ${what}`)
      await setImmediate()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.machine.close()
  }

  #ask(kind: number, address: number, value: number): Promise<number> {
    const answer = this.#last.catch(() => {}).then(() => this.#exchange(kind, address, value))
    this.#last = answer
    return answer
  }

  async #exchange(kind: number, address: number, value: number): Promise<number> {
    const { memory } = this.machine
    const at = (offset: number) => layout.parameters + offset
    memory.writeU32(at(AT.kind), kind)
    memory.writeU32(at(AT.address), address)
    memory.writeU32(at(AT.value), value >>> 0)
    const request = ++this.#request
    memory.atomicStore(at(AT.request), 'u32', request)
    await this.until(`access ${kind} at 0x${address.toString(16)}`, () => {
      return memory.atomicLoad(at(AT.done), 'u32') === request
    })
    return memory.readU32(at(AT.value))
  }
}
