// One vCPU and more than one who wants it: its own thread, the main thread, handlers.

import { describe, expect, test } from 'vitest'
import { createGuest, HALT, OUT_LOOP, SPIN } from '../helpers/guest.js'
import { threadCount } from '../helpers/process-state.js'
import { codeOf, rejectionCodeOf } from '../helpers/thrown.js'

const soon = (ms = 20) => new Promise<void>((resolve) => setTimeout(resolve, ms))

describe('while the vCPU spins on its own thread', () => {
  test('everything else that needs it is refused as busy', async () => {
    using guest = createGuest(SPIN)
    const { vcpu } = guest
    const regs = vcpu.getRegs()
    vcpu.start(() => {})
    await soon()
    expect(codeOf(() => vcpu.run())).toBe('ERR_KVM_BUSY')
    expect(codeOf(() => vcpu.run({ timeoutMs: 1 }))).toBe('ERR_KVM_BUSY')
    expect(codeOf(() => vcpu.start(() => {}))).toBe('ERR_KVM_BUSY')
    expect(codeOf(() => vcpu.getRegs())).toBe('ERR_KVM_BUSY')
    expect(codeOf(() => vcpu.setRegs(regs))).toBe('ERR_KVM_BUSY')
    expect(codeOf(() => vcpu.getXsave())).toBe('ERR_KVM_BUSY')
    expect(codeOf(() => vcpu.unsafeIoctl(0x8090ae81, new ArrayBuffer(144)))).toBe('ERR_KVM_BUSY')
    await vcpu.stop()
    expect(vcpu.getRegs().rip).toBe(regs.rip)
  })

  test('the VM can still be changed', async () => {
    using guest = createGuest(SPIN)
    guest.vcpu.start(() => {})
    await soon()
    const region = { slot: 7, guestPhysAddr: 0x1000_0000, memorySize: 0x1000 }
    guest.vm.setUserMemoryRegion({ ...region, memory: guest.memory, memoryAddress: 0 })
    guest.vm.setUserMemoryRegion({ ...region, memorySize: 0 })
    guest.vm.createVcpu(1).close()
    await guest.vcpu.stop()
  })

  test('a kick is an exit of type intr', async () => {
    using guest = createGuest(SPIN)
    const types: string[] = []
    const exited = new Promise<void>((resolve) => {
      guest.vcpu.start((exit) => {
        types.push(exit.type)
        resolve()
      })
    })
    await soon()
    guest.vcpu.kick()
    await exited
    await guest.vcpu.stop()
    expect(types).toEqual(['intr'])
  })
})

describe('run() while the vCPU has a thread', () => {
  test('is refused in the handler, and the exit is not lost', async () => {
    using guest = createGuest(OUT_LOOP)
    const { vcpu } = guest
    const seen: unknown[] = []
    const done = new Promise<void>((resolve) => {
      vcpu.start((exit) => {
        seen.push(
          codeOf(() => vcpu.run()),
          codeOf(() => vcpu.run({ timeoutMs: 5 })),
        )
        seen.push(exit.type)
        if (seen.length === 6) resolve()
      })
    })
    await done
    await vcpu.stop()
    expect(seen.slice(0, 6)).toEqual([
      'ERR_KVM_BUSY',
      'ERR_KVM_BUSY',
      'io',
      'ERR_KVM_BUSY',
      'ERR_KVM_BUSY',
      'io',
    ])
  })

  test('is refused outside of the handler, whatever the thread does', async () => {
    using guest = createGuest(OUT_LOOP)
    const { vcpu } = guest
    vcpu.start(() => {})
    for (let i = 0; i < 200; i++) {
      expect(codeOf(() => vcpu.run())).toBe('ERR_KVM_BUSY')
      await new Promise((resolve) => setImmediate(resolve))
    }
    await vcpu.stop()
    expect(vcpu.run().type).toBe('io')
  })

  test('is allowed again once the thread has ended', async () => {
    using guest = createGuest(OUT_LOOP)
    guest.vcpu.start(() => {})
    await soon()
    await guest.vcpu.stop()
    for (let i = 0; i < 3; i++) expect(guest.vcpu.run().type).toBe('io')
  })
})

describe('stopping and starting again', () => {
  test('works at once and for as often as one likes', async () => {
    using guest = createGuest(OUT_LOOP)
    for (let round = 0; round < 30; round++) {
      let exits = 0
      const some = new Promise<void>((resolve) => {
        guest.vcpu.start((exit) => {
          expect(exit.type).toBe('io')
          if (++exits === 3) resolve()
        })
      })
      await some
      await guest.vcpu.stop()
      expect(exits).toBeGreaterThanOrEqual(3)
    }
  })

  test('leaves no kick behind for the next run, wherever the thread was', async () => {
    using guest = createGuest(OUT_LOOP)
    const { vcpu } = guest
    for (const park of [true, false]) {
      const parked = new Promise<void>((resolve) => {
        vcpu.start(() => {
          resolve()
          return park ? new Promise<void>(() => {}) : undefined
        })
      })
      await parked
      const ended = vcpu.stop()
      vcpu.stop()
      await ended
      vcpu.stop()
      expect(vcpu.run().type).toBe('io')
    }
  })

  test('in one turn of the event loop', async () => {
    using guest = createGuest(SPIN)
    const { vcpu } = guest
    const before = threadCount()
    for (let i = 0; i < 20; i++) {
      vcpu.start(() => {})
      await vcpu.stop()
    }
    expect(threadCount()).toBeLessThanOrEqual(before + 1) // the watchdog, if this was the first run
  })
})

describe('a handler', () => {
  test('that throws ends the thread, and join() rejects with it', async () => {
    using guest = createGuest(OUT_LOOP)
    const failure = new Error('from the handler')
    guest.vcpu.start(() => {
      throw failure
    })
    await expect(guest.vcpu.join()).rejects.toBe(failure)
    expect(guest.vcpu.tid).toBeUndefined()
    expect(guest.vcpu.run().type).toBe('io')
  })

  test('whose promise is rejected does the same', async () => {
    using guest = createGuest(OUT_LOOP)
    const failure = new Error('from the handler, later')
    guest.vcpu.start(async () => {
      await soon(1)
      throw failure
    })
    await expect(guest.vcpu.join()).rejects.toBe(failure)
  })

  test.each<[string, unknown]>([
    ['a number', 5],
    ['null', null],
    ['false', false],
    ['a string', 'done'],
    ['an object', {}],
  ])('that returns %s has answered', async (_what, value) => {
    using guest = createGuest(OUT_LOOP)
    let exits = 0
    const done = new Promise<void>((resolve) => {
      guest.vcpu.start((() => {
        if (++exits === 3) resolve()
        return value
      }) as never)
    })
    await done
    await guest.vcpu.stop()
  })

  test('whose thenable answers many times counts once', async () => {
    using guest = createGuest([0xb0, 0x00, 0xfe, 0xc0, 0xe6, 0x10, 0xeb, 0xfa]) // inc al; out
    const values: number[] = []
    const done = new Promise<void>((resolve) => {
      guest.vcpu.start(((exit: { value: number }) => {
        values.push(exit.value)
        if (values.length === 20) resolve()
        // biome-ignore lint/suspicious/noThenProperty: a thenable that misbehaves is the point
        return { then: (answer: () => void) => [1, 2, 3, 4].forEach(() => void answer()) }
      }) as never)
    })
    await done
    await guest.vcpu.stop()
    expect(values.slice(0, 20)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1))
  })

  test('whose thenable throws ends the thread', async () => {
    using guest = createGuest(OUT_LOOP)
    guest.vcpu.start((() => ({
      // biome-ignore lint/suspicious/noThenProperty: a thenable that misbehaves is the point
      get then(): never {
        throw Object.assign(new Error('no'), { code: 'ERR_TEST' })
      },
    })) as never)
    expect(await rejectionCodeOf(guest.vcpu.join())).toBe('ERR_TEST')
  })

  test('that answers after the vCPU was stopped, or closed, wakes nobody', async () => {
    using guest = createGuest(OUT_LOOP)
    let answer = () => {}
    const parked = new Promise<void>((resolve) => {
      guest.vcpu.start(() => {
        resolve()
        return new Promise<void>((late) => {
          answer = late
        })
      })
    })
    await parked
    await guest.vcpu.stop()
    answer()
    await soon(5)
    expect(guest.vcpu.run().type).toBe('io')
    guest.close()
    answer()
  })

  test('may stop its own vCPU and wait for that', async () => {
    using guest = createGuest(OUT_LOOP)
    let exits = 0
    guest.vcpu.start(async () => {
      exits++
      await guest.vcpu.stop()
    })
    await guest.vcpu.join()
    expect(exits).toBe(1)
  })
})

test('guests that exit all the time leave turns of the event loop to others', async () => {
  const guests = Array.from({ length: 8 }, () => createGuest(OUT_LOOP))
  let exits = 0
  let inThisTurn = 0
  let most = 0
  const done = new Promise<void>((resolve) => {
    for (const { vcpu } of guests) {
      vcpu.start(() => {
        const until = performance.now() + 0.2 // longer than a guest takes to its next exit
        while (performance.now() < until);
        most = Math.max(most, ++inThisTurn)
        if (++exits === 1000) resolve()
      })
    }
  })
  const turn = setInterval(() => {
    inThisTurn = 0
  }, 0)
  await done
  clearInterval(turn)
  await Promise.all(guests.map(({ vcpu }) => vcpu.stop()))
  expect(most).toBeLessThanOrEqual(200)
  for (const guest of guests) guest.close()
})

test('a thread that halts with the LAPIC in the kernel can be stopped', async () => {
  using guest = createGuest(HALT, { irqchip: true })
  const halted = 3
  while (guest.vcpu.getMpState() !== halted) guest.vcpu.run({ timeoutMs: 5 })
  guest.vcpu.start(() => {})
  await soon()
  await guest.vcpu.stop()
  expect(guest.vcpu.getMpState()).toBe(halted)
})

test('two vCPUs of one VM run at once', async () => {
  using guest = createGuest(OUT_LOOP)
  const other = guest.vm.createVcpu(1)
  other.setSregs(guest.vcpu.getSregs())
  other.setRegs(guest.vcpu.getRegs())
  const both = [guest.vcpu, other].map(
    (vcpu) =>
      new Promise<void>((resolve) => {
        let exits = 0
        vcpu.start(() => {
          if (++exits === 100) resolve()
        })
      }),
  )
  await Promise.all(both)
  expect(guest.vcpu.tid).not.toBe(other.tid)
  await Promise.all([guest.vcpu.stop(), other.stop()])
  other.close()
})
