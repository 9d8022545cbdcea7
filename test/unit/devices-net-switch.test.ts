import { once } from 'node:events'
import { buffer } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { EthernetSwitch, type NetPort, type SwitchPortOptions } from '../../src/devices/index.js'
import { frameOf, macOf } from '../helpers/frames.js'

/** A machine that can refuse frames. */
class Machine implements NetPort {
  readonly frames: Uint8Array[] = []
  accepts = true
  receive(frame: Uint8Array): boolean {
    if (this.accepts) this.frames.push(frame)
    return this.accepts
  }
  resume(): void {}
  setLink(): void {}
  /** How many frames came since the last call. */
  take(): number {
    return this.frames.splice(0).length
  }
}

function plug(to: EthernetSwitch, options?: SwitchPortOptions) {
  const machine = new Machine()
  const port = to.port(options)
  port.connect(machine)
  return { machine, port }
}

test('frames go to all until their destination is known, then only there', () => {
  const bridge = new EthernetSwitch()
  const [a, b, c] = [plug(bridge), plug(bridge), plug(bridge)]
  a.port.transmit(frameOf({ to: 2, from: 1 }))
  expect([a, b, c].map(({ machine }) => machine.take())).toEqual([0, 1, 1])
  b.port.transmit(frameOf({ to: 1, from: 2 }))
  expect([a, b, c].map(({ machine }) => machine.take())).toEqual([1, 0, 0])
  a.port.transmit(frameOf({ to: 2, from: 1 }))
  a.port.transmit(frameOf({ to: 'broadcast', from: 1 }))
  expect([a, b, c].map(({ machine }) => machine.take())).toEqual([0, 2, 1])
})

test('a machine that moves to another port is found there, and one that is gone is forgotten', () => {
  const bridge = new EthernetSwitch()
  const [a, b, c] = [plug(bridge), plug(bridge), plug(bridge)]
  b.port.transmit(frameOf({ to: 1, from: 2 }))
  c.port.transmit(frameOf({ to: 1, from: 2 }))
  for (const { machine } of [a, b, c]) machine.take()
  a.port.transmit(frameOf({ to: 2, from: 1 }))
  expect([b, c].map(({ machine }) => machine.take())).toEqual([0, 1])
  c.port.close()
  a.port.transmit(frameOf({ to: 2, from: 1 }))
  expect([b, c].map(({ machine }) => machine.take())).toEqual([1, 0])
})

test('the table forgets the oldest address, so that nobody can fill it', () => {
  const bridge = new EthernetSwitch({ tableSize: 2 })
  const [a, b, c] = [plug(bridge), plug(bridge), plug(bridge)]
  for (const from of [1, 2, 3]) a.port.transmit(frameOf({ to: 9, from }))
  for (const { machine } of [b, c]) machine.take()
  b.port.transmit(frameOf({ to: 1, from: 4 }))
  expect(c.machine.take()).toBe(1)
  b.port.transmit(frameOf({ to: 3, from: 4 }))
  expect(c.machine.take()).toBe(0)
})

test('VLANs are kept apart; a trunk sees them with tags', () => {
  const bridge = new EthernetSwitch()
  const red = plug(bridge, { vlan: 10 })
  const blue = plug(bridge, { vlan: 20 })
  const trunk = plug(bridge, { vlan: 99, tagged: [10, 20] })
  red.port.transmit(frameOf({ to: 'broadcast', from: 1 }))
  expect(blue.machine.take()).toBe(0)
  expect(trunk.machine.frames).toEqual([frameOf({ to: 'broadcast', from: 1, vlan: 10 })])
  trunk.port.transmit(frameOf({ to: 1, from: 3, vlan: 10 }))
  trunk.port.transmit(frameOf({ to: 1, from: 3, vlan: 20 }))
  expect(red.machine.frames).toEqual([frameOf({ to: 1, from: 3 })])
  expect(blue.machine.frames).toEqual([frameOf({ to: 1, from: 3 })])
})

test('a frame with a tag for a VLAN that is not its port’s goes nowhere', () => {
  const bridge = new EthernetSwitch()
  const [a, b] = [plug(bridge), plug(bridge, { vlan: 5 })]
  a.port.transmit(frameOf({ to: 'broadcast', from: 1, vlan: 5 }))
  a.port.transmit(new Uint8Array(13))
  expect(b.machine.take()).toBe(0)
  expect(a.port.statistics).toEqual({ received: 0, sent: 0, dropped: 0, refused: 2 })
})

test('a tag that is only a priority counts as none', () => {
  const bridge = new EthernetSwitch()
  const [a, b] = [plug(bridge, { vlan: 5 }), plug(bridge, { vlan: 5 })]
  a.port.transmit(frameOf({ to: 'broadcast', from: 1, vlan: 0 }))
  expect(b.machine.frames).toEqual([frameOf({ to: 'broadcast', from: 1 })])
})

test('what no VLAN is, is refused', () => {
  expect(() => new EthernetSwitch().port({ vlan: 4095 })).toThrow('from 1 to 4094')
  expect(() => new EthernetSwitch().port({ tagged: [0] })).toThrow('from 1 to 4094')
})

test('a slow machine has a queue with an end', () => {
  const bridge = new EthernetSwitch({ queueLength: 3 })
  const [a, b] = [plug(bridge), plug(bridge)]
  b.machine.accepts = false
  for (let i = 0; i < 10; i++) a.port.transmit(frameOf({ to: 'broadcast', from: 1, size: 60 + i }))
  expect(b.port.statistics).toMatchObject({ sent: 0, dropped: 7 })
  b.machine.accepts = true
  b.port.resume()
  expect(b.machine.frames.map(({ length }) => length)).toEqual([60, 61, 62])
})

test('a capture is a pcap file', async () => {
  const bridge = new EthernetSwitch()
  const [a] = [plug(bridge), plug(bridge)]
  const capture = bridge.capture()
  const frame = frameOf({ to: 'broadcast', from: 1, size: 61 })
  a.port.transmit(frame)
  capture.end()
  const bytes = await buffer(capture)
  expect(bytes.length).toBe(24 + 16 + 61)
  expect(bytes.readUInt32LE(0)).toBe(0xa1b23c4d)
  expect([bytes.readUInt16LE(4), bytes.readUInt16LE(6), bytes.readUInt32LE(20)]).toEqual([2, 4, 1])
  expect(Math.abs(bytes.readUInt32LE(24) - Date.now() / 1000)).toBeLessThan(60)
  expect(bytes.readUInt32LE(28)).toBeLessThan(1e9)
  expect([bytes.readUInt32LE(32), bytes.readUInt32LE(36)]).toEqual([61, 61])
  expect(new Uint8Array(bytes.subarray(40))).toEqual(frame)
  a.port.transmit(frame)
})

test('a capture that nobody reads has an end too', async () => {
  const bridge = new EthernetSwitch()
  const [a] = [plug(bridge), plug(bridge)]
  const capture = bridge.capture(1000)
  for (let i = 0; i < 100; i++) a.port.transmit(frameOf({ to: 'broadcast', from: 1, size: 184 }))
  expect(capture.dropped).toBe(95)
  capture.destroy()
  await once(capture, 'close')
  a.port.transmit(frameOf({ to: 'broadcast', from: 1 }))
})

test('addresses have a text', () => {
  expect(Array.from(macOf(7))).toEqual([0x52, 0x54, 0, 0, 0, 7])
})
