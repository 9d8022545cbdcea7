// Objects that nobody closes: the collector does, later, and only what nothing needs any more.

import { expect, test } from 'vitest'
import { GuestMemory, Kvm } from '../../src/index.js'
import { collectSeveralTimes, collectUntil } from '../helpers/gc.js'
import { createGuest, HALT, OUT_LOOP, SPIN } from '../helpers/guest.js'
import { kvmMappings, openKvmFiles } from '../helpers/process-state.js'

/** Runs `make` in a frame of its own, so that nothing of it stays on the stack. */
function apart<T>(make: () => T): T {
  return (() => make())()
}

test('guests that are dropped give back their files and their memory', async () => {
  await collectSeveralTimes()
  const files = openKvmFiles()
  const mappings = kvmMappings()
  apart(() => {
    for (let i = 0; i < 30; i++) {
      const guest = createGuest(OUT_LOOP)
      guest.vcpu.run()
      guest.memory.view(0, 16)
    }
  })
  expect(openKvmFiles().length).toBeGreaterThan(files.length)
  await collectUntil(() => openKvmFiles().length <= files.length && kvmMappings() <= mappings)
  expect(openKvmFiles()).toEqual(files)
})

test('guests whose vCPU once had a thread, too', async () => {
  await collectSeveralTimes()
  const files = openKvmFiles()
  for (let i = 0; i < 10; i++) {
    await (async () => {
      const { vcpu } = createGuest(SPIN)
      vcpu.start(() => {})
      await vcpu.stop()
    })()
  }
  await collectUntil(() => openKvmFiles().length <= files.length)
})

test('a /dev/kvm that is dropped leaves its VM usable', async () => {
  const vm = apart(() => Kvm.open().createVm())
  await collectSeveralTimes()
  vm.createVcpu(0).close()
  vm.close()
})

test('a vCPU keeps all it needs', async () => {
  const vcpu = apart(() => createGuest(OUT_LOOP).vcpu)
  await collectSeveralTimes()
  expect(vcpu.run().type).toBe('io')
  vcpu.close()
})

test('a VM keeps its memory', async () => {
  const guest = apart(() => {
    const { vm, vcpu } = createGuest(HALT)
    return { vm, vcpu }
  })
  await collectSeveralTimes()
  expect(guest.vcpu.run().type).toBe('hlt')
  guest.vcpu.close()
  guest.vm.close()
})

test('a view keeps the memory and nothing else', async () => {
  await collectSeveralTimes()
  const files = openKvmFiles()
  const view = apart(() => {
    const { memory } = createGuest(HALT)
    memory.writeU32(0x100, 0xfeed_f00d)
    return memory.view(0x100, 4)
  })
  // The region's own file and mapping stay; those of KVM go.
  const ofKvm = (name: string) => !name.includes('memory')
  await collectUntil(() => openKvmFiles().filter(ofKvm).length <= files.filter(ofKvm).length)
  await collectSeveralTimes()
  expect([...view]).toEqual([0x0d, 0xf0, 0xed, 0xfe])
  view[0] = 1
  expect(view[0]).toBe(1)
})

test('a view of memory that was closed keeps it', async () => {
  const view = apart(() => {
    const memory = GuestMemory.create(0x1000)
    const all = memory.view(0, 0x1000)
    memory.writeU8(5, 55)
    memory.close()
    return all
  })
  await collectSeveralTimes()
  expect(view[5]).toBe(55)
})

test('an exit keeps what it shows', async () => {
  const { exit, data } = apart(() => {
    const exit = createGuest([0xb0, 0x41, 0xe6, 0x10]).vcpu.run() // mov al, 0x41; out 0x10, al
    return { exit, data: exit.type === 'io' ? exit.data : undefined }
  })
  await collectSeveralTimes()
  expect(exit).toMatchObject({ type: 'io', port: 0x10, value: 0x41 })
  expect([...data!]).toEqual([0x41])
})

test('sync registers keep the page they are in', async () => {
  const registers = apart(() => {
    const { vcpu } = createGuest([0xb8, 0x34, 0x12, 0xf4]) // mov ax, 0x1234; hlt
    const sync = vcpu.enableSyncRegs()
    vcpu.run()
    return sync
  })
  await collectSeveralTimes()
  expect(registers.rax & 0xffffn).toBe(0x1234n)
})

test('a running thread keeps its vCPU, its handler and the guest', async () => {
  let exits = 0
  let stop = () => {}
  const stopped = new Promise<void>((resolve) => {
    apart(() => {
      const { vcpu } = createGuest(OUT_LOOP)
      vcpu.start(() => void exits++)
      const weak = new WeakRef(vcpu)
      stop = () => {
        const alive = weak.deref()
        expect(alive).toBeDefined()
        alive!.stop().then(resolve)
      }
    })
  })
  await collectSeveralTimes()
  const before = exits
  await collectUntil(() => exits > before)
  stop()
  await stopped
})

test('a closed guest is forgotten as a whole', async () => {
  const gone: string[] = []
  const registry = new FinalizationRegistry<string>((name) => gone.push(name))
  apart(() => {
    const guest = createGuest(OUT_LOOP)
    guest.vcpu.run()
    for (const part of ['kvm', 'vm', 'vcpu', 'memory'] as const)
      registry.register(guest[part], part)
    guest.close()
  })
  await collectUntil(() => gone.length === 4)
})
