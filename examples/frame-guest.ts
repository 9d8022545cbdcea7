// What switch.ts and passt.ts share: a machine whose guest sends one frame and shows those that it gets.

import { Machine } from 'node-kvm'
import { FrameDecoder, type NetBackend, VirtioNet } from 'node-kvm/devices'
import { image, layout } from './guests/frames.js'

const HEADER = 12
const AT = { begins: 0, answers: 1, length: 4, frame: 16 + HEADER } as const

/** When the guest sends its frame. */
export interface FrameGuestOptions {
  readonly mac: string
  readonly frame: Uint8Array
  readonly sends: 'first' | 'asAnswer'
}

/** The machine, and the frames that its guest gets. */
export async function frameGuest(backend: NetBackend, { mac, frame, sends }: FrameGuestOptions) {
  const machine = await Machine.create({
    memory: '16M',
    boot: { flat: image, gpa: layout.gpa, entry: layout.start, mode: 'protected' },
    devices: [{ device: new VirtioNet(backend, { mac }), transport: 'mmio' }],
  })
  const { memory } = machine
  memory.writeU8(layout.parameters + AT.begins, sends === 'first' ? 1 : 0)
  memory.writeU8(layout.parameters + AT.answers, sends === 'asAnswer' ? 1 : 0)
  memory.writeU32(layout.parameters + AT.length, HEADER + frame.length)
  memory.write(layout.parameters + AT.frame, frame)
  return { machine, frames: framesOf(machine) }
}

async function* framesOf(machine: Machine): AsyncGenerator<Uint8Array, never> {
  const decoder = new FrameDecoder()
  for await (const bytes of machine.serial) yield* decoder.decode(bytes)
  throw new Error('the machine has ended')
}

/** An Ethernet frame. */
export function ethernet(to: string, from: string, type: number, payload: Uint8Array): Uint8Array {
  const bytes = (mac: string) => Buffer.from(mac.replaceAll(':', ''), 'hex')
  return Buffer.concat([bytes(to), bytes(from), Buffer.from([type >> 8, type & 0xff]), payload])
}
