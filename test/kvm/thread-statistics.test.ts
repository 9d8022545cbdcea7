// Exits counted, timed and traced, whoever answers them.

import { expect, test } from 'vitest'
import { traceToJson } from '../../src/index.js'
import { createGuest, HALT, OUT_LOOP, SPIN } from '../helpers/guest.js'
import { codeOf } from '../helpers/thrown.js'

/** Ten times `out 0x10, al`, then hlt. */
const TEN = [0xb9, 0x0a, 0x00, 0xe6, 0x10, 0xe2, 0xfc, ...HALT]

test('counts exits by type, those that the table answers too', () => {
  using guest = createGuest([...TEN.slice(0, -3), 0xe6, 0x11, ...HALT])
  const { vm, vcpu } = guest
  vm.answerPio(0x10, 1, { write: 'ignore' })
  while (vcpu.run().type !== 'hlt');
  const untimed = { guestNs: 0, handlerNs: 0 }
  // A machine so slow that it takes more than a slice has ended ones as well.
  const { types, total } = vcpu.statistics
  const sliced = types.find(({ type }) => type === 'intr')?.count ?? 0
  expect(types.filter(({ type }) => type !== 'intr')).toEqual([
    { type: 'io', count: 11, answered: 10, ...untimed },
    { type: 'hlt', count: 1, answered: 0, ...untimed },
  ])
  expect(total).toBe(12 + sliced)
})

test('counts nothing while it is told not to', () => {
  using guest = createGuest(TEN)
  const { statistics } = guest.vcpu
  expect(statistics.counting).toBe(true)
  guest.vcpu.run()
  statistics.counting = false
  statistics.timed = true
  guest.vcpu.run()
  expect(statistics.total).toBe(1)
  statistics.counting = true
  guest.vcpu.run()
  expect(statistics.total).toBe(2)
})

test('does not take the time between two measurements for a handler', async () => {
  using guest = createGuest(TEN)
  const { statistics } = guest.vcpu
  for (let i = 0; i < 2; i++) {
    statistics.timed = true
    guest.vcpu.run()
    statistics.timed = false
    guest.vcpu.run()
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  statistics.timed = true
  guest.vcpu.run()
  expect(statistics.types[0]!.handlerNs).toBe(0)
})

test('counts kicks and deadlines as intr', () => {
  using guest = createGuest(SPIN)
  guest.vcpu.run({ timeoutMs: 1 })
  expect(guest.vcpu.statistics.types.map(({ type }) => type)).toEqual(['intr'])
})

test('tells time in the guest from time in handlers', async () => {
  using guest = createGuest(OUT_LOOP)
  const { vcpu } = guest
  const { statistics } = vcpu
  statistics.timed = true
  expect(statistics.timed).toBe(true)
  let exits = 0
  const began = performance.now()
  vcpu.start(async () => {
    await new Promise((resolve) => setTimeout(resolve, 2))
    if (++exits === 10) vcpu.requestStop()
  })
  await vcpu.join()
  const elapsedNs = (performance.now() - began) * 1e6
  const [io] = statistics.types
  expect(io!.count).toBe(10)
  expect(io!.handlerNs).toBeGreaterThan(9 * 1e6)
  expect(io!.guestNs).toBeGreaterThan(0)
  expect(io!.guestNs + io!.handlerNs).toBeLessThan(elapsedNs * 1.1)
  statistics.timed = false
  const { guestNs } = statistics.types[0]!
  vcpu.run()
  expect(statistics.types[0]!.count).toBe(11)
  expect(statistics.types[0]!.guestNs / guestNs).toBeCloseTo(1, 2)
})

test('traces the latest exits in their order', () => {
  using guest = createGuest(TEN)
  const { vm, vcpu } = guest
  vm.answerPio(0x10, 1, { write: 'ignore' })
  const trace = vcpu.startTrace({ capacity: 4 })
  expect(vcpu.run().type).toBe('hlt')
  trace.stop()
  vcpu.run()
  const { exits } = trace
  expect(exits.map(({ type }) => type)).toEqual(['io', 'io', 'io', 'hlt'])
  const access = { address: 0x10, isWrite: true, size: 1, answered: true }
  expect(exits[0]).toMatchObject(access)
  expect(exits[3]).toMatchObject({ address: undefined, answered: false })
  for (const [i, exit] of exits.entries()) {
    expect(exit.exitedUs).toBeGreaterThan(exit.enteredUs)
    if (i > 0) expect(exit.enteredUs).toBeGreaterThan(exits[i - 1]!.exitedUs)
  }
  expect(codeOf(() => vcpu.startTrace())).toBe('EEXIST')
  expect(codeOf(() => vcpu.startTrace({ capacity: 3 }))).toBe('ERR_OUT_OF_RANGE')
})

test('exports a trace as trace events', () => {
  using guest = createGuest(TEN)
  const trace = guest.vcpu.startTrace()
  for (let i = 0; i < 3; i++) guest.vcpu.run()
  const { traceEvents } = JSON.parse(traceToJson([trace]))
  expect(traceEvents.map(({ name }: { name: string }) => name)).toEqual([
    ...['guest', 'io', 'guest', 'io', 'guest'],
  ])
  expect(traceEvents[1]).toMatchObject({
    ...{ cat: 'exit', ph: 'X', tid: 0, pid: process.pid },
    args: { address: 0x10, isWrite: true, size: 1, answered: false },
  })
  expect(traceEvents[1].dur).toBeGreaterThan(0)
})
