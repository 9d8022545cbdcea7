// All vCPUs of a thread share one native run function: each must still enter its own guest.

import { expect, test } from 'vitest'
import { createGuest, type Guest } from '../helpers/guest.js'

/** `out port, al`, again and again. */
const outLoop = (port: number) => createGuest([0xe6, port, 0xeb, 0xfc])

function portOf({ vcpu }: Guest): number {
  const exit = vcpu.run()
  if (exit.type !== 'io') throw new Error(`unexpected exit: ${exit.type}`)
  return exit.port
}

test('vCPUs that run in turn each enter their own guest', () => {
  const ports = [0x10, 0x11, 0x12, 0x13]
  const guests = ports.map(outLoop)
  for (let turn = 0; turn < 5; turn++) expect(guests.map(portOf)).toEqual(ports)
  for (const guest of guests) guest.close()
})

test('a closed vCPU is refused while another one runs on', () => {
  const first = outLoop(0x20)
  const second = outLoop(0x21)
  expect([portOf(first), portOf(second)]).toEqual([0x20, 0x21])
  first.close()
  expect(() => portOf(first)).toThrow(expect.objectContaining({ code: 'ERR_KVM_CLOSED' }))
  const third = outLoop(0x22)
  expect([portOf(second), portOf(third)]).toEqual([0x21, 0x22])
  expect(() => portOf(first)).toThrow(expect.objectContaining({ code: 'ERR_KVM_CLOSED' }))
  second.close()
  third.close()
})
