import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  controlCommand,
  encodeFrame,
  FrameChannel,
  FrameDecoder,
  formatMac,
  type NetControls,
  parseMac,
  ReceiveFilter,
  randomMac,
  TokenBucket,
  VIRTIO_NET_F,
} from '../../src/devices/index.js'
import { frameOf, macOf } from '../helpers/frames.js'

test('addresses: text and back, and what is none', () => {
  expect(formatMac(parseMac('52:54:00:AB:cd:0f'))).toBe('52:54:00:ab:cd:0f')
  for (const wrong of [
    '',
    '52:54:00:12:34',
    '53:54:00:12:34:56',
    '5254.0012.3456',
    'ff:'.repeat(6),
  ]) {
    expect(() => parseMac(wrong)).toThrow('not the address of a network device')
  }
  for (let i = 0; i < 100; i++) expect(randomMac()[0]! & 3).toBe(2)
})

test('a stream of frames is cut where it was joined, however it is chunked', () => {
  const frames = fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 20 })
  const cuts = fc.array(fc.nat(300), { maxLength: 30 })
  fc.assert(
    fc.property(frames, cuts, (sent, sizes) => {
      const stream = Buffer.concat(sent.map(encodeFrame))
      const decoder = new FrameDecoder()
      const got: Uint8Array[] = []
      let at = 0
      for (const size of [...sizes, stream.length]) {
        for (const frame of decoder.decode(stream.subarray(at, at + size)))
          got.push(new Uint8Array(frame))
        at += size
      }
      expect(got).toEqual(sent)
    }),
  )
})

test('what is no stream of frames is refused before anything is kept for it', () => {
  const decoder = new FrameDecoder()
  expect(() => decoder.decode(Buffer.from('GET / HTTP/1.1\r\n'))).toThrow('in the stream')
})

test('a token bucket: a burst, then the rate; a debt delays', () => {
  let now = 0
  const bucket = new TokenBucket({ perSecond: 1000, burst: 10 }, () => now)
  bucket.take(10)
  expect(bucket.delayMs).toBeGreaterThan(0)
  now += 1
  expect(bucket.delayMs).toBe(0)
  bucket.take(101)
  expect(bucket.delayMs).toBeCloseTo(100, 0)
  now += 200
  expect(bucket.delayMs).toBe(0)
  bucket.take(9)
  expect(bucket.delayMs).toBe(0)
  expect(() => new TokenBucket({ perSecond: 0 })).toThrow('must be positive')
  expect(() => new TokenBucket({ perSecond: 1, burst: Number.POSITIVE_INFINITY })).toThrow('burst')
})

test('in the long run a token bucket spends its rate', () => {
  const takes = fc.array(fc.record({ wait: fc.nat(50), count: fc.integer({ min: 1, max: 500 }) }), {
    minLength: 50,
  })
  fc.assert(
    fc.property(takes, (all) => {
      let now = 0
      let spent = 0
      let last = 0
      const bucket = new TokenBucket({ perSecond: 2000, burst: 100 }, () => now)
      for (const { wait, count } of all) {
        now += wait
        if (bucket.delayMs > 0) continue
        bucket.take(count)
        spent += count
        last = count
      }
      expect(spent - last).toBeLessThanOrEqual(100 + now * 2 + 1)
    }),
  )
})

function channelOf(capacity: number) {
  const channel = new FrameChannel({ capacity })
  const port = {
    frames: [] as Uint8Array[],
    accepts: true,
    resumed: 0,
    receive(frame: Uint8Array) {
      if (port.accepts) port.frames.push(frame)
      return port.accepts
    },
    resume: () => {
      port.resumed++
    },
    setLink() {},
  }
  channel.connect(port)
  return { channel, port }
}

test('a program that is slow stops the guest, and nothing is lost', async () => {
  const { channel, port } = channelOf(2)
  const frames = [1, 2, 3].map((from) => frameOf({ to: 9, from }))
  expect(frames.map((frame) => channel.transmit(frame))).toEqual([true, true, false])
  const reader = channel[Symbol.asyncIterator]()
  expect((await reader.next()).value).toBe(frames[0])
  expect(port.resumed).toBe(1)
  expect(channel.transmit(frames[2]!)).toBe(true)
  expect((await reader.next()).value).toBe(frames[1])
  expect((await reader.next()).value).toBe(frames[2])
  const waiting = reader.next()
  channel.transmit(frames[0]!)
  expect((await waiting).value).toBe(frames[0])
  const last = reader.next()
  channel.close()
  expect((await last).done).toBe(true)
  expect((await reader.next()).done).toBe(true)
  expect(channel.transmit(frames[0]!)).toBe(true)
})

test('a guest that is slow lets sends wait, and not endlessly many', async () => {
  const { channel, port } = channelOf(2)
  port.accepts = false
  const frame = frameOf({ to: 1, from: 2 })
  const sends = [channel.send(frame), channel.send(frame)]
  await expect(channel.send(frame)).rejects.toMatchObject({ code: 'ERR_KVM_BUSY' })
  port.accepts = true
  channel.resume()
  await Promise.all(sends)
  expect(port.frames).toEqual([frame, frame])
  port.accepts = false
  const late = channel.send(frame)
  channel.close()
  await expect(late).rejects.toMatchObject({ code: 'ERR_KVM_CLOSED' })
  await expect(channel.send(frame)).rejects.toMatchObject({ code: 'ERR_KVM_CLOSED' })
})

const ALL_FEATURES = Object.values(VIRTIO_NET_F).reduce((all, bit) => all | bit, 0n)

function controlsOf(features = ALL_FEATURES) {
  const calls: string[] = []
  const controls: NetControls = {
    filter: new ReceiveFilter(macOf(1)),
    features,
    setMac: (mac) => calls.push(`mac ${formatMac(mac)}`),
    announced: () => calls.push('announced'),
    setQueuePairs: (pairs) => calls.push(`pairs ${pairs}`) > 0 && pairs <= 4,
    setGuestOffloads: (offloads) => calls.push(`offloads ${offloads}`) > 0,
  }
  const command = (...bytes: number[]) => controlCommand(controls, new Uint8Array(bytes))
  return { controls, calls, command }
}

test('commands of the control queue', () => {
  const { calls, command } = controlsOf()
  expect(command(1, 1, ...macOf(7))).toBe(0)
  expect(command(3, 0)).toBe(0)
  expect(command(4, 0, 2, 0)).toBe(0)
  expect(command(4, 0, 5, 0)).toBe(1)
  expect(command(5, 0, 0x82, 0, 0, 0, 0, 0, 0, 0)).toBe(0)
  expect(calls).toEqual([
    'mac 52:54:00:00:00:07',
    'announced',
    'pairs 2',
    'pairs 5',
    'offloads 130',
  ])
})

test('commands that are none, or whose feature was not accepted', () => {
  const { calls, command } = controlsOf()
  const wrong = [
    ...[[], [0], [0, 6, 1], [0, 0], [1, 1, 1, 2, 3], [1, 1, 1, 0, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0]],
    ...[
      [2, 2, 1, 0],
      [2, 0, 0xff, 0xff],
      [3, 0, 1],
      [4, 0, 0, 0],
      [4, 0, 1],
      [4, 1, 1, 0],
      [6, 0],
    ],
    ...[
      [5, 0, 1, 0, 0, 0, 0, 0, 0, 0],
      [5, 0, 0x80],
    ],
  ]
  for (const bytes of wrong) expect(command(...bytes), `${bytes}`).toBe(1)
  expect(calls).toEqual([])
  expect(controlsOf(0n).command(4, 0, 2, 0)).toBe(1)
})

test('random commands are answered', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      expect([0, 1]).toContain(controlCommand(controlsOf().controls, bytes))
    }),
  )
})

test('the receive filter', () => {
  const { controls, command } = controlsOf()
  const accepts = (...frames: Uint8Array[]) => frames.map((frame) => controls.filter.accepts(frame))
  const own = frameOf({ to: 1, from: 2 })
  const other = frameOf({ to: 3, from: 2 })
  const group = frameOf({ to: 3, from: 2 })
  group[0] = 0x53
  const all = frameOf({ to: 'broadcast', from: 2 })
  expect(accepts(own, other, group, all)).toEqual([true, true, true, true])
  command(0, 0, 0)
  expect(accepts(own, other, group, all)).toEqual([true, false, false, true])
  command(0, 1, 1)
  expect(accepts(own, other, group, all)).toEqual([true, false, true, true])
  command(0, 1, 0)
  const lists = [1, 0, 0, 0, ...macOf(3), 1, 0, 0, 0, ...group.subarray(0, 6)]
  expect(command(1, 0, ...lists)).toBe(0)
  expect(accepts(own, other, group, all)).toEqual([true, true, true, true])
  command(0, 3, 1)
  command(0, 4, 1)
  command(0, 5, 1)
  expect(accepts(own, other, group, all)).toEqual([false, false, false, false])
})

test('with more addresses than it keeps, the filter lets their kind pass', () => {
  const filter = new ReceiveFilter(macOf(1))
  filter.setMode(0, false)
  const addresses = Array.from({ length: 65 }, (_, i) => Array.from(macOf(100 + i))).flat()
  expect(filter.setAddresses(new Uint8Array([65, 0, 0, 0, ...addresses, 0, 0, 0, 0]))).toBe(true)
  expect(filter.accepts(frameOf({ to: 3, from: 2 }))).toBe(true)
})

test('VLANs are filtered once the driver wants it', () => {
  const filter = new ReceiveFilter(macOf(1))
  filter.setMode(0, false)
  const tagged = frameOf({ to: 1, from: 2, vlan: 5 })
  expect(filter.accepts(tagged)).toBe(true)
  filter.filterVlans()
  expect(filter.accepts(tagged)).toBe(false)
  filter.setVlan(5, true)
  expect(filter.accepts(tagged)).toBe(true)
  filter.setVlan(5, false)
  expect(filter.accepts(tagged)).toBe(false)
  expect(filter.accepts(frameOf({ to: 1, from: 2 }))).toBe(true)
})
