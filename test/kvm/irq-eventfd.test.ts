// Eventfds on the event loop: handlers, iterators, other threads, ends in any order.

import { execFileSync } from 'node:child_process'
import { afterEach, describe, expect, test } from 'vitest'
import { EventFd, GsiRouting, IoEventFd, IrqFd, Kvm } from '../../src/index.js'
import { encodeMsi } from '../../src/x86/index.js'
import { createGuest } from '../helpers/guest.js'
import { codeOf } from '../helpers/thrown.js'
import { done, enableX2apic, outByte, VectorsGuest } from '../helpers/vectors-guest.js'
import { waitUntil } from '../helpers/wait-until.js'

const open: Disposable[] = []
afterEach(() => {
  for (const each of open.splice(0).reverse()) each[Symbol.dispose]()
})
function keep<T extends Disposable>(object: T): T {
  open.push(object)
  return object
}
const eventFd = (options = {}) => keep(EventFd.create(options))

describe('a handler', () => {
  test('gets each count, and what was signaled before it came', async () => {
    const event = eventFd({ initial: 3 })
    const counts: number[] = []
    event.onSignal((count) => counts.push(count))
    await waitUntil(() => counts.length === 1)
    event.signal(4)
    await waitUntil(() => counts.length === 2)
    expect(counts).toEqual([3, 4])
  })

  test('of a semaphore gets one at a time', async () => {
    const event = eventFd({ initial: 3, semaphore: true })
    const counts: number[] = []
    event.onSignal((count) => counts.push(count))
    await waitUntil(() => counts.length === 3)
    expect(counts).toEqual([1, 1, 1])
  })

  test('that is taken away leaves the count', async () => {
    const event = eventFd()
    const counts: number[] = []
    event.onSignal((count) => counts.push(count))
    event.offSignal()
    event.signal()
    await new Promise((resolve) => setImmediate(resolve))
    expect(event.consume()).toBe(1)
    expect(counts).toEqual([])
    event.onSignal((count) => counts.push(count)).signal(2)
    await waitUntil(() => counts.length === 1)
  })

  test('may close its eventfd', async () => {
    const event = eventFd({ initial: 1 })
    let calls = 0
    event.onSignal(() => {
      calls++
      event.close()
    })
    await waitUntil(() => calls === 1)
    expect(event.closed).toBe(true)
  })

  test('is the only one', () => {
    const event = eventFd()
    event.onSignal(() => {})
    expect(codeOf(() => event.onSignal(() => {}))).toBe('ERR_KVM_BUSY')
    expect(codeOf(() => event.signals())).toBe('ERR_KVM_BUSY')
  })

  test('is a function, and the eventfd open', () => {
    expect(codeOf(() => eventFd().onSignal(1 as never))).toBe('ERR_INVALID_ARG_TYPE')
    const closed = EventFd.create()
    closed.close()
    expect(codeOf(() => closed.onSignal(() => {}))).toBe('ERR_KVM_CLOSED')
  })

  test('comes a thousand times for as many eventfds', async () => {
    const events = Array.from({ length: 1000 }, () => eventFd())
    let calls = 0
    for (const event of events) event.onSignal(() => calls++)
    for (const event of events) event.signal()
    await waitUntil(() => calls === 1000)
  })
})

describe('an iterator', () => {
  test('gives counts and adds up what nobody waited for', async () => {
    const event = eventFd()
    const signals = event.signals()
    event.signal(2)
    expect(await signals.next()).toEqual({ value: 2, done: false })
    const next = signals.next()
    event.signal()
    expect(await next).toEqual({ value: 1, done: false })
  })

  test('ends when the eventfd is closed', async () => {
    const event = eventFd()
    setImmediate(() => event.close())
    for await (const _ of event) expect.unreachable()
  })

  test('ends by break, and another may come', async () => {
    const event = eventFd({ initial: 1 })
    for await (const count of event) {
      expect(count).toBe(1)
      break
    }
    event.signal(5)
    for await (const count of event) {
      expect(count).toBe(5)
      break
    }
  })

  test('ends with an AbortError', async () => {
    const controller = new AbortController()
    const next = eventFd().signals({ signal: controller.signal }).next()
    controller.abort(new Error('enough'))
    await expect(next).rejects.toMatchObject({ code: 'ABORT_ERR' })
    expect(codeOf(() => eventFd().signals({ signal: controller.signal }))).toBe('ABORT_ERR')
  })
})

describe('the event loop', () => {
  const library = new URL('../../lib/index.js', import.meta.url).href
  const output = (code: string) =>
    execFileSync(process.execPath, ['--input-type=module', '-e', code], {
      encoding: 'utf8',
      timeout: 100_000,
    })

  test('ends although an unreferenced eventfd is listened to', () => {
    const code = `import { EventFd } from '${library}'
      EventFd.create().onSignal(() => {}).unref(); console.log('end')`
    expect(output(code)).toBe('end\n')
  })

  test('stays alive for a referenced one', () => {
    const code = `import { EventFd } from '${library}'
      const event = EventFd.create()
      event.unref().ref().onSignal(() => { console.log('heard'); event.close() })
      setTimeout(() => event.signal(), 50).unref()
      setTimeout(() => {}, 100)`
    expect(output(code)).toBe('heard\n')
  })

  test('of a Worker takes its relays with it', () => {
    const worker = `import { parentPort, workerData } from 'node:worker_threads'
      import { EventFd } from '${library}'
      const [from, to] = workerData.map((id) => EventFd.fromId(id))
      from.relayTo(to)
      parentPort.once('message', () => {})
      parentPort.postMessage('ready')`
    const code = `import { Worker } from 'node:worker_threads'
      import { EventFd } from '${library}'
      const [from, to] = [EventFd.create(), EventFd.create()]
      const url = new URL('data:text/javascript,' + encodeURIComponent(${JSON.stringify(worker)}))
      const worker = new Worker(url, { workerData: [from.id, to.id] })
      worker.once('message', async () => {
        from.signal(7)
        let count
        while (!(count = to.consume()));
        await worker.terminate()
        from.signal(8)
        await new Promise((resolve) => setTimeout(resolve, 50))
        console.log(count, to.consume(), from.consume())
      })`
    expect(output(code)).toBe('7 0 8\n')
  })

  test('of a Worker hears another thread, and ends with the Worker', () => {
    const worker = `import { parentPort, workerData } from 'node:worker_threads'
      import { EventFd } from '${library}'
      EventFd.fromId(workerData).onSignal((count) => parentPort.postMessage(count))
      parentPort.postMessage('ready')`
    const code = `import { Worker } from 'node:worker_threads'
      import { EventFd } from '${library}'
      const event = EventFd.create()
      const url = new URL('data:text/javascript,' + encodeURIComponent(${JSON.stringify(worker)}))
      const worker = new Worker(url, { workerData: event.id })
      worker.on('message', async (message) => {
        console.log(message)
        if (message === 'ready') return event.signal(7)
        await worker.terminate()
        event.close()
        console.log('ended')
      })`
    expect(output(code)).toBe('ready\n7\nended\n')
  })
})

// mov al, 0x41; out 0x10, al; out 0x20, al
const TWO_PORTS = [0xb0, 0x41, 0xe6, 0x10, 0xe6, 0x20]

test('a doorbell in one VM is an interrupt in another, without JavaScript between', () => {
  using sender = createGuest(TWO_PORTS)
  using receiver = new VectorsGuest({ script: [...enableX2apic(), done()] })
  receiver.untilDone()
  const gsi = GsiRouting.of(receiver.vm).update((routes) => {
    const free = routes.free()
    routes.set(free, { type: 'msi', ...encodeMsi({ destination: 0, vector: 0x77 }) })
    return free
  })
  const event = eventFd()
  using _irq = IrqFd.create(receiver.vm, { gsi, eventFd: event })
  const where = { address: 0x10, length: 1, pio: true }
  using _doorbell = IoEventFd.create(sender.vm, { ...where, eventFd: event })
  expect(sender.vcpu.run()).toMatchObject({ port: 0x20 })
  expect(receiver.nextVector()).toBe(0x77)
})

describe('a relay', () => {
  test('takes a doorbell to an interrupt and back while JavaScript does not come to it', () => {
    using guest = new VectorsGuest({
      report: false,
      script: [...enableX2apic(), outByte(0x10, 1), outByte(0x11, 1)],
    })
    const gsi = GsiRouting.of(guest.vm).update((routes) => {
      const free = routes.free()
      routes.set(free, { type: 'msi', ...encodeMsi({ destination: 0, vector: 0x77 }) })
      return free
    })
    using irq = IrqFd.create(guest.vm, { gsi })
    for (const address of [0x10, 0x11]) {
      const doorbell = IoEventFd.create(guest.vm, { address, length: 1, pio: true })
      keep(doorbell).eventFd.relayTo(irq.eventFd)
    }
    guest.vcpu.start(() => {})
    const end = performance.now() + 10_000
    while (guest.taken(0x77) === 0 && performance.now() < end);
    expect(guest.taken(0x77)).toBeGreaterThanOrEqual(1)
    guest.vcpu.close()
  })

  test('adds counts, until it is ended', async () => {
    const [source, target] = [eventFd({ initial: 3 }), eventFd()]
    let sum = 0
    target.onSignal((count) => {
      sum += count
    })
    source.relayTo(target)
    for (let i = 1; i < 100; i++) source.signal(i)
    await waitUntil(() => sum === 3 + 4950)
    source.offSignal().signal(5)
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect([sum, source.consume()]).toEqual([4953, 5])
    source.relayTo(target).signal(7)
    await waitUntil(() => sum === 4960)
  })

  test('goes on over others, and loses what nobody can count', async () => {
    const [first, second, last] = [eventFd(), eventFd(), eventFd()]
    first.relayTo(second)
    second.relayTo(last)
    first.signal(2)
    await waitUntil(() => last.consume() === 2)
    last.close()
    first.signal()
    await waitUntil(() => second.consume() === 0)
  })

  test('is refused for an eventfd that has a reader, and in circles', () => {
    const [one, two, three] = [eventFd(), eventFd(), eventFd()]
    expect(codeOf(() => one.relayTo(one))).toBe('ERR_INVALID_ARG_VALUE')
    expect(codeOf(() => one.relayTo({} as never))).toBe('ERR_INVALID_ARG_TYPE')
    one.relayTo(two)
    two.relayTo(three)
    expect(codeOf(() => three.relayTo(one))).toBe('ERR_INVALID_ARG_VALUE')
    expect(codeOf(() => one.relayTo(three))).toBe('ERR_KVM_BUSY')
    expect(codeOf(() => one.onSignal(() => {}))).toBe('ERR_KVM_BUSY')
    expect(codeOf(() => keep(EventFd.fromId(one.id)).relayTo(three))).toBe('ERR_KVM_BUSY')
    three.onSignal(() => {})
    expect(codeOf(() => three.relayTo(eventFd()))).toBe('ERR_KVM_BUSY')
    one.close()
    expect(codeOf(() => one.relayTo(two))).toBe('ERR_KVM_CLOSED')
  })
})

describe('IoEventFd', () => {
  test('is heard on the event loop, and closed gives the exits back', async () => {
    using guest = createGuest([...TWO_PORTS, 0xeb, 0xfa])
    const doorbell = IoEventFd.create(guest.vm, { address: 0x10, length: 1, pio: true })
    let rung = 0
    doorbell.eventFd.onSignal((count) => {
      rung += count
    })
    expect(guest.vcpu.run()).toMatchObject({ port: 0x20 })
    expect(guest.vcpu.run()).toMatchObject({ port: 0x20 })
    await waitUntil(() => rung === 2)
    doorbell.close()
    doorbell.close()
    expect(guest.vcpu.run()).toMatchObject({ port: 0x10 })
    expect(doorbell.eventFd.closed).toBe(true)
  })

  test('closes in any order', () => {
    const guest = createGuest(TWO_PORTS)
    const event = eventFd()
    const where = { address: 0x10, length: 0, pio: true }
    const first = IoEventFd.create(guest.vm, { ...where, eventFd: event })
    expect(codeOf(() => IoEventFd.create(guest.vm, where))).toBe('EEXIST')
    event.close()
    first.close()
    const second = IoEventFd.create(guest.vm, { ...where, address: 0x11 })
    guest.close()
    second.close()
    expect([first.closed, second.closed, second.eventFd.closed]).toEqual([true, true, true])
  })
})

describe('IrqFd', () => {
  const machine = () => {
    const vm = keep(keep(Kvm.open()).createVm())
    vm.createIrqchip()
    return vm
  }

  test('closes in any order', () => {
    const vm = machine()
    const [own, resample] = [eventFd(), eventFd()]
    const edge = IrqFd.create(vm, { gsi: 4, eventFd: own })
    expect(codeOf(() => IrqFd.create(vm, { gsi: 5, eventFd: own }))).toBe('EBUSY')
    const level = IrqFd.create(vm, { gsi: 5, resample })
    own.close()
    edge.close()
    resample.close()
    level.close()
    const last = IrqFd.create(vm, { gsi: 6, resample: true })
    vm.close()
    last.close()
    last.close()
    expect([last.eventFd.closed, last.resample?.closed, level.eventFd.closed]).toEqual([
      true,
      true,
      true,
    ])
  })

  test('leaves nothing open when it is refused', () => {
    const vm = keep(keep(Kvm.open()).createVm())
    expect(codeOf(() => IrqFd.create(vm, { gsi: 4, resample: true }))).toBe('EINVAL')
  })
})
