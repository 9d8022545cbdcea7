// vCPUs in Workers: the same VM, memory and vCPU in another thread. The Worker runs what was built.

import { Worker } from 'node:worker_threads'
import { describe, expect, test } from 'vitest'
import { GuestMemory, type SharedVcpu, Vcpu, Vm } from '../../src/index.js'
import { createGuest, type Guest, OUT_LOOP, SPIN } from '../helpers/guest.js'
import { codeOf } from '../helpers/thrown.js'

const library = new URL('../../lib/index.js', import.meta.url).href

/** Runs `body` in a Worker with `vcpu`, `memory`, `post` and `shared` in scope. */
function inWorker(guest: Guest, body: string) {
  const source = `
    import { parentPort, workerData as shared } from 'node:worker_threads'
    const { GuestMemory, Vcpu, Vm } = await import(${JSON.stringify(library)})
    const vcpu = Vcpu.open(shared.vcpu)
    const memory = GuestMemory.open(shared.memory)
    const post = (value) => parentPort.postMessage(value)
    ${body}`
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`), {
    workerData: { vcpu: guest.vcpu.share(), memory: guest.memory.share() },
  })
  const messages: unknown[] = []
  const waiting: ((value: unknown) => void)[] = []
  worker.on('message', (value) => (waiting.shift() ?? ((late) => messages.push(late)))(value))
  const next = () =>
    messages.length > 0
      ? Promise.resolve(messages.shift())
      : new Promise<unknown>((resolve, reject) => {
          waiting.push(resolve)
          worker.once('error', reject)
        })
  const ended = new Promise<number>((resolve) => worker.once('exit', resolve))
  return { worker, next, ended }
}

describe('a vCPU in a Worker', () => {
  test('runs there with synchronous exits, over the same memory', async () => {
    using guest = createGuest([0xb0, 0x48, 0xa2, 0x00, 0x01, 0xe6, 0x10]) // mov [0x100], al; out
    const { next, ended } = inWorker(
      guest,
      `const exit = vcpu.run()
       memory.writeU32(0x200, 0x1234_5678)
       post([exit.type, exit.port, exit.value, memory.readU8(0x100), vcpu.vm.checkExtension(0)])`,
    )
    expect(await next()).toEqual(['io', 0x10, 0x48, 0x48, 1])
    expect(await ended).toBe(0)
    expect(guest.memory.readU32(0x200)).toBe(0x1234_5678)
    expect(guest.vcpu.getRegs().rax & 0xffn).toBe(0x48n)
  })

  test('can be kicked from the thread that made it, and is busy meanwhile', async () => {
    using guest = createGuest(SPIN)
    const { next, ended } = inWorker(guest, `post('runs'); post(vcpu.run().type)`)
    await next()
    // Asked rarely: a run that begins while we are in the call would itself find the vCPU busy.
    while (!isBusy(guest.vcpu)) await new Promise((resolve) => setTimeout(resolve, 20))
    guest.vcpu.kick()
    expect(await next()).toBe('intr')
    expect(await ended).toBe(0)
  })

  test('ends when it is closed by the thread that made it', async () => {
    using guest = createGuest(OUT_LOOP)
    const { next, ended } = inWorker(
      guest,
      `post('runs')
       try { for (;;) vcpu.run() } catch (error) { post(error.code) }`,
    )
    await next()
    guest.close()
    expect(await next()).toBe('ERR_KVM_CLOSED')
    expect(await ended).toBe(0)
  })

  test('closes for all', async () => {
    using guest = createGuest(OUT_LOOP)
    const { ended } = inWorker(guest, 'vcpu.close(); memory.close(); vcpu.vm.close()')
    expect(await ended).toBe(0)
    expect(codeOf(() => guest.vcpu.run())).toBe('ERR_KVM_CLOSED')
    expect(guest.memory.readU8(0x8000)).toBe(OUT_LOOP[0])
  })

  test('is answered by the table of the thread that made it', async () => {
    using guest = createGuest([0xe4, 0x10, 0xe6, 0x20, 0xeb, 0xfa]) // in al, 0x10; out 0x20
    guest.vm.answerPio(0x10, 1, { read: 0x77 })
    const { next, ended } = inWorker(guest, 'post(vcpu.run().value)')
    expect(await next()).toBe(0x77)
    expect(await ended).toBe(0)
  })

  test('can be terminated in a guest that spins; the vCPU is free again', async () => {
    using guest = createGuest(SPIN)
    const { worker, next } = inWorker(guest, `post('runs'); vcpu.run()`)
    await next()
    await worker.terminate()
    expect(guest.vcpu.run({ timeoutMs: 5 }).type).toBe('intr')
  })

  test('counts with Atomics in memory that the guest counts in too', async () => {
    // mov ecx, 300000; lock inc dword [0x4000]; dec ecx; jnz; hlt, in real mode
    using guest = createGuest([
      ...[0x66, 0xb9, 0xe0, 0x93, 0x04, 0x00],
      ...[0xf0, 0x66, 0xff, 0x06, 0x00, 0x40],
      ...[0x66, 0x49, 0x75, 0xf6, 0xf4],
    ])
    const { next, ended } = inWorker(guest, `post(vcpu.run().type)`)
    const view = guest.memory.view(0x4000, 4)
    const word = new Uint32Array(view.buffer, view.byteOffset, 1)
    let type: unknown
    const done = next().then((value) => {
      type = value
    })
    let mine = 0
    while (type === undefined) {
      for (let i = 0; i < 1000; i++, mine++) Atomics.add(word, 0, 1)
      await new Promise((resolve) => setImmediate(resolve))
    }
    await done
    expect(type).toBe('hlt')
    expect(await ended).toBe(0)
    expect(Atomics.load(word, 0)).toBe((mine + 300_000) >>> 0)
  })
})

describe('opening', () => {
  test('in the same thread gives the same objects', () => {
    using guest = createGuest(OUT_LOOP)
    const vcpu = Vcpu.open(guest.vcpu.share())
    expect(vcpu.run().type).toBe('io')
    using memory = GuestMemory.open(guest.memory.share())
    expect(memory.readU8(0x8000)).toBe(OUT_LOOP[0])
    expect(Vm.open(guest.vm.share()).checkExtension('KVM_CAP_USER_MEMORY')).toBe(1)
  })

  test('what is gone, or never was, is refused', () => {
    const guest = createGuest(OUT_LOOP)
    const shared: SharedVcpu = guest.vcpu.share()
    expect(codeOf(() => Vcpu.open({ ...shared, vcpu: 2 ** 40 }))).toBe('ERR_KVM_CLOSED')
    expect(codeOf(() => Vcpu.open({ ...shared, vcpu: shared.vm.vmId }))).toBe('ERR_KVM_CLOSED')
    expect(codeOf(() => Vm.open({} as never))).toBe('ERR_INVALID_ARG_TYPE')
    expect(codeOf(() => GuestMemory.open({ regions: 1 } as never))).toBe('ERR_INVALID_ARG_TYPE')
    guest.close()
    expect(codeOf(() => guest.vcpu.share())).toBe('ERR_KVM_CLOSED')
    expect(codeOf(() => guest.vm.share())).toBe('ERR_KVM_CLOSED')
    expect(codeOf(() => guest.memory.share())).toBe('ERR_KVM_CLOSED')
  })
})

function isBusy(vcpu: Vcpu): boolean {
  try {
    vcpu.getRegs()
    return false
  } catch (error) {
    expect(error).toMatchObject({ code: 'ERR_KVM_BUSY' })
    return true
  }
}
