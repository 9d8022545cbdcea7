// Closing in any order, and from anywhere.

import { describe, expect, test } from 'vitest'
import { createGuest, type Guest, HALT, OUT_LOOP, SPIN } from '../helpers/guest.js'
import { openKvmFiles } from '../helpers/process-state.js'
import { codeOf } from '../helpers/thrown.js'

type Part = 'kvm' | 'vm' | 'vcpu' | 'memory'
const parts: readonly Part[] = ['kvm', 'vm', 'vcpu', 'memory']

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length <= 1) return [[...items]]
  return items.flatMap((item, i) =>
    permutations(items.filter((_, at) => at !== i)).map((rest) => [item, ...rest]),
  )
}

describe.each([
  ['before a run', (_guest: Guest) => {}],
  ['after an exit', (guest: Guest) => void guest.vcpu.run()],
  ['after a time-out', (guest: Guest) => void guest.vcpu.run({ timeoutMs: 1 })],
])('%s', (_when, prepare) => {
  test.each(permutations(parts).map((order) => [order.join(', '), order] as const))(
    'closing %s works, and gives every file back',
    (_name, order) => {
      const before = openKvmFiles()
      const guest = createGuest(OUT_LOOP)
      prepare(guest)
      for (const part of order) {
        guest[part].close()
        guest[part].close()
        expect(guest[part].closed).toBe(true)
      }
      expect(openKvmFiles()).toEqual(before)
    },
  )
})

test('a vCPU outlives its VM and its memory and does everything that needs no VM', () => {
  using guest = createGuest(OUT_LOOP)
  const { vcpu } = guest
  guest.vm.close()
  guest.kvm.close()
  guest.memory.close()
  expect(vcpu.run().type).toBe('io')
  vcpu.setRegs(vcpu.getRegs())
  vcpu.setSregs(vcpu.getSregs())
  vcpu.setFpu(vcpu.getFpu())
  vcpu.setXsave(vcpu.getXsave())
  vcpu.setVcpuEvents(vcpu.getVcpuEvents())
  vcpu.setMpState(vcpu.getMpState())
  vcpu.setMsrs(vcpu.getMsrs([0x174]))
  vcpu.enableSyncRegs()
  expect(vcpu.run({ timeoutMs: 1000 }).type).toBe('io')
  expect(codeOf(() => guest.vm.createVcpu(1))).toBe('ERR_KVM_CLOSED')
})

test('a VM outlives its vCPU and can have another one', () => {
  using guest = createGuest(HALT)
  guest.vcpu.close()
  // KERNEL: a vCPU lives as long as its VM, so its id stays taken.
  expect(codeOf(() => guest.vm.createVcpu(0))).toBe('EEXIST')
  const other = guest.vm.createVcpu(1)
  expect(other.getRegs().rip).toBe(0xfff0n)
  other.close()
})

test('closing a VM with a running thread leaves the thread running', async () => {
  using guest = createGuest(OUT_LOOP)
  let exits = 0
  const three = new Promise<void>((resolve) => {
    guest.vcpu.start(() => {
      if (++exits === 1) guest.vm.close()
      if (exits === 3) resolve()
    })
  })
  await three
  await guest.vcpu.stop()
})

describe('closing a vCPU whose thread', () => {
  test('spins in the guest', async () => {
    const guest = createGuest(SPIN)
    guest.vcpu.start(() => {})
    await new Promise((resolve) => setTimeout(resolve, 20))
    guest.vcpu.close()
    await guest.vcpu.join()
    expect(codeOf(() => guest.vcpu.getRegs())).toBe('ERR_KVM_CLOSED')
    guest.close()
  })

  test('has just been started', async () => {
    for (let i = 0; i < 20; i++) {
      const guest = createGuest(SPIN)
      guest.vcpu.start(() => {})
      guest.vcpu.close()
      await guest.vcpu.join()
      guest.close()
    }
  })

  test('waits for the answer of its handler', async () => {
    const guest = createGuest(OUT_LOOP)
    const parked = new Promise<void>((resolve) => {
      guest.vcpu.start(() => {
        resolve()
        return new Promise<void>(() => {})
      })
    })
    await parked
    guest.vcpu.close()
    await guest.vcpu.join()
    guest.close()
  })

  test('is calling its handler, which closes everything', async () => {
    const guest = createGuest(OUT_LOOP)
    let exits = 0
    guest.vcpu.start((exit) => {
      exits++
      guest.close()
      expect(exit).toMatchObject({ type: 'io', port: 0x10 })
    })
    await guest.vcpu.join()
    expect(exits).toBe(1)
  })

  test('is calling its handler, which closes the vCPU and throws', async () => {
    using guest = createGuest(OUT_LOOP)
    const failure = new Error('from the handler')
    guest.vcpu.start(() => {
      guest.vcpu.close()
      throw failure
    })
    await expect(guest.vcpu.join()).rejects.toBe(failure)
  })

  test('has ended', async () => {
    using guest = createGuest(OUT_LOOP)
    guest.vcpu.start(() => {})
    await guest.vcpu.stop()
    guest.vcpu.close()
    await guest.vcpu.join()
    await guest.vcpu.stop()
  })
})

test('memory closed under a running thread stays until the vCPU is closed', async () => {
  const guest = createGuest(OUT_LOOP)
  let exits = 0
  const types = new Set<string>()
  const done = new Promise<void>((resolve) => {
    guest.vcpu.start((exit) => {
      types.add(exit.type)
      if (++exits === 1) guest.memory.close()
      if (exits === 50) resolve()
    })
  })
  await done
  guest.close()
  await guest.vcpu.join()
  expect([...types]).toEqual(['io'])
})
