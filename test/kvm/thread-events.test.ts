// What is told of vCPU threads, to whom, and in which order.

import { expect, test } from 'vitest'
import type { Vcpu } from '../../src/index.js'
import { createGuest, OUT_LOOP, SPIN } from '../helpers/guest.js'
import { rejectionCodeOf } from '../helpers/thrown.js'

test('start, pause, resume and end, to the vCPU and to its VM', async () => {
  using guest = createGuest(SPIN)
  const { vm, vcpu } = guest
  const other = vm.createVcpu(1)
  const seen: string[] = []
  const note = (who: string, what: string) => (of: Vcpu) =>
    void seen.push(`${who} ${what} ${of.id}`)
  for (const what of ['start', 'pause', 'resume', 'end'] as const) {
    vcpu.events.on(what, note('vCPU', what))
    vm.events.on(what, note('VM', what))
  }
  vcpu.events.once('start', (of) => expect(of.tid).toBeGreaterThan(0))
  vcpu.events.once('end', (of, error) => expect([of.tid, error]).toEqual([undefined, undefined]))
  vcpu.start()
  vcpu.resume() // it is not paused
  await Promise.all([vcpu.pause(), vcpu.pause()])
  vm.resumeAll()
  await vcpu.stop()
  other.start(() => {}, { paused: true })
  other.resume()
  await other.stop()
  other.close()
  const both = ['start', 'pause', 'resume', 'end'].flatMap((what) => [
    `vCPU ${what} 0`,
    `VM ${what} 0`,
  ])
  expect(seen).toEqual([...both, 'VM start 1', 'VM resume 1', 'VM end 1'])
})

test('an end by an error, with the error', async () => {
  using guest = createGuest(OUT_LOOP)
  const { vcpu } = guest
  const ends: unknown[] = []
  vcpu.events.on('end', (_, error) => ends.push(error))
  vcpu.start()
  expect(await rejectionCodeOf(vcpu.join())).toBe('ERR_KVM_UNHANDLED_EXIT')
  expect(ends).toEqual([expect.objectContaining({ code: 'ERR_KVM_UNHANDLED_EXIT' })])
})

test('a listener can start the vCPU again', async () => {
  using guest = createGuest(OUT_LOOP)
  const { vcpu } = guest
  let starts = 0
  const again = new Promise<void>((resolve) => {
    vcpu.events.on('end', () => {
      if (starts < 3) begin()
      else resolve()
    })
  })
  const begin = () => {
    starts++
    vcpu.start(() => vcpu.requestStop())
  }
  begin()
  await again
  expect(starts).toBe(3)
})
