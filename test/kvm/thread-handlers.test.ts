// Who answers the exits of a vCPU's thread: handlers by range and type, start()'s own, a loop.

import { describe, expect, test } from 'vitest'
import type { IoExit, MmioExit } from '../../src/index.js'
import { createGuest, OUT_LOOP, SPIN } from '../helpers/guest.js'
import { codeOf, rejectionCodeOf } from '../helpers/thrown.js'

/** In real mode: `out 0x10, al; out 0x21, al; mov [0xb8000], al` as far as a real-mode segment goes. */
const MIXED = [
  ...[0xb8, 0x00, 0xb8], // mov ax, 0xb800
  ...[0x8e, 0xd8], // mov ds, ax
  ...[0xe6, 0x10], // out 0x10, al
  ...[0xe6, 0x21], // out 0x21, al
  ...[0xa2, 0x04, 0x00], // mov [4], al
  ...[0xf4], // hlt
  ...[0xeb, 0xf6], // jmp to the first out
]

describe('handlers of a VM', () => {
  test('are found by range and type, and the rest is left to start()', async () => {
    using guest = createGuest(MIXED, { memorySize: 0x10000 })
    const { vm, vcpu } = guest
    const seen: string[] = []
    const note = (who: string) => (exit: IoExit | MmioExit) =>
      void seen.push(`${who} ${exit.type === 'io' ? exit.port : exit.gpa}`)
    vm.onPio(0x10, 4, note('ports'))
    vm.onMmio(0xb8000, 8, note('screen'))
    vm.onExit('io', note('any port'))
    vcpu.start((exit) => {
      seen.push(`rest ${exit.type}`)
      vcpu.requestStop()
    })
    await vcpu.join()
    expect(seen).toEqual(['ports 16', 'any port 33', `screen ${0xb8004}`, 'rest hlt'])
  })

  test('know the vCPU, and answer reads', async () => {
    // in al, 0x10; out 0x11, al
    using guest = createGuest([0xe4, 0x10, 0xe6, 0x11])
    const { vm, vcpu } = guest
    const result = new Promise<number>((resolve) => {
      vm.onPio(0x10, 1, async (exit, of) => {
        await Promise.resolve()
        exit.value = of === vcpu ? 0x5a : 0
      })
      vm.onPio(0x11, 1, (exit) => resolve(exit.value))
    })
    vcpu.start(() => vcpu.requestStop())
    expect(await result).toBe(0x5a)
    await vcpu.stop()
  })

  test('can be added and removed while the guest runs', async () => {
    using guest = createGuest(OUT_LOOP)
    const { vm, vcpu } = guest
    const seen: string[] = []
    const done = new Promise<void>((resolve) => {
      vcpu.start(() => {
        seen.push('start')
        if (seen.length > 2) return resolve()
        const range = vm.onPio(0x10, 1, () => {
          seen.push('range')
          range.remove()
          range.remove()
        })
      })
    })
    await done
    await vcpu.stop()
    expect(seen.slice(0, 3)).toEqual(['start', 'range', 'start'])
  })

  test('an access that is only partly in the range is not its', async () => {
    using guest = createGuest([0xe7, 0x10, 0xeb, 0xfc]) // out 0x10, ax
    const { vm, vcpu } = guest
    vm.onPio(0x11, 1, () => expect.unreachable())
    vm.onPio(0x10, 1, () => expect.unreachable())
    const size = await new Promise<number>((resolve) => {
      vcpu.start((exit) => resolve((exit as IoExit).size))
    })
    expect(size).toBe(2)
    await vcpu.stop()
  })

  test('that overlap are refused', () => {
    using guest = createGuest(SPIN)
    const { vm } = guest
    vm.onPio(0x3f8, 8, () => {})
    expect(codeOf(() => vm.onPio(0x3ff, 1, () => {}))).toBe('ERR_KVM_RANGE_TAKEN')
    expect(codeOf(() => vm.onPio(0x3f0, 9, () => {}))).toBe('ERR_KVM_RANGE_TAKEN')
    vm.onPio(0x400, 8, () => {}).remove()
    vm.onPio(0x3f0, 8, () => {})[Symbol.dispose]()
    vm.onMmio(0x3f8, 8, () => {})
    expect(codeOf(() => vm.onPio(0xffff, 2, () => {}))).toBe('ERR_OUT_OF_RANGE')
    expect(codeOf(() => vm.onMmio(2 ** 52, 1, () => {}))).toBe('ERR_OUT_OF_RANGE')
    expect(codeOf(() => vm.onPio(1, 0, () => {}))).toBe('ERR_OUT_OF_RANGE')
    expect(codeOf(() => vm.onPio(1, 1, undefined as never))).toBe('ERR_INVALID_ARG_TYPE')
    expect(codeOf(() => vm.onExit('io', 1 as never))).toBe('ERR_INVALID_ARG_TYPE')
  })

  test('an exit that has none ends the thread', async () => {
    using guest = createGuest(OUT_LOOP)
    guest.vcpu.start()
    expect(await rejectionCodeOf(guest.vcpu.join())).toBe('ERR_KVM_UNHANDLED_EXIT')
  })

  test('one that KVM could not go on at says why', async () => {
    using guest = createGuest([0xea, 0x00, 0x00, 0x00, 0xd0], { memorySize: 0x1_0000 }) // to no RAM
    guest.vcpu.start()
    await expect(guest.vcpu.join()).rejects.toThrow(
      "'internalError': KVM cannot emulate the instruction",
    )
  })
})

describe('for await of exits()', () => {
  /** `mov al, 0; inc al; out 0x10, al; jmp` to the inc. */
  const COUNT_OUT = [0xb0, 0x00, 0xfe, 0xc0, 0xe6, 0x10, 0xeb, 0xfa]

  test('gives each exit once; leaving the loop stops the vCPU', async () => {
    using guest = createGuest(COUNT_OUT)
    const { vcpu } = guest
    const values: number[] = []
    for await (const exit of vcpu.exits()) {
      if (exit.type === 'io') values.push(exit.value)
      if (values.length === 50) break
    }
    expect(values).toEqual(Array.from({ length: 50 }, (_, i) => i + 1))
    expect(vcpu.tid).toBeUndefined()
    expect(vcpu.run().type).toBe('io')
  })

  test('ends when the vCPU is stopped', async () => {
    using guest = createGuest(OUT_LOOP)
    let exits = 0
    for await (const _ of guest.vcpu.exits()) {
      if (++exits === 3) void guest.vcpu.stop()
    }
    expect(exits).toBe(3)
  })

  test('rejects when the signal is aborted, with a guest that spins', async () => {
    using guest = createGuest(SPIN)
    const abort = new AbortController()
    const next = guest.vcpu.exits({ signal: abort.signal }).next()
    setTimeout(() => abort.abort(), 5)
    expect(await rejectionCodeOf(next)).toBe('ABORT_ERR')
    expect(guest.vcpu.tid).toBeUndefined()
    const again = guest.vcpu.exits({ signal: abort.signal }).next()
    expect(await rejectionCodeOf(again)).toBe('ABORT_ERR')
  })

  test('throws what the loop throws, once the vCPU has stopped', async () => {
    using guest = createGuest(OUT_LOOP)
    const loop = async () => {
      for await (const _ of guest.vcpu.exits()) throw Object.assign(new Error(), { code: 'MINE' })
    }
    expect(await rejectionCodeOf(loop())).toBe('MINE')
    expect(guest.vcpu.run().type).toBe('io')
  })
})
