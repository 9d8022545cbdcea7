// The life of a machine: its states and events, pauses, resets, and every way it can come to grief.

import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { setImmediate } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { Machine, type MachineBoot, MachineCrash, type MachineOptions } from '../../src/index.js'
import { crashKernel, echoKernel, spinKernel } from '../helpers/small-kernels.js'

const create = (boot: MachineBoot, more: Partial<MachineOptions> = {}) =>
  Machine.create({ memory: '16M', boot, ...more })

/** Raw 32-bit code at 1 MiB. */
const flat = (hex: string): MachineBoot => ({
  flat: Buffer.from(hex, 'hex'),
  gpa: 0x10_0000,
  mode: 'protected',
})

/** Every event of a machine, in order. */
function eventsOf(machine: Machine): string[] {
  const seen: string[] = []
  const names = ['started', 'paused', 'resumed', 'reset', 'panicked', 'ended', 'crashed', 'closed']
  for (const name of names) machine.on(name as 'started', () => seen.push(name))
  return seen
}

/** How the run failed. */
async function crashOf(machine: Machine): Promise<MachineCrash> {
  const error = await machine.run().catch((reason: unknown) => reason)
  expect(error).toBeInstanceOf(MachineCrash)
  return error as MachineCrash
}

// mov dx, 0x3f8; mov al, 'A'; out dx, al; lock inc dword ptr [0x200000]; then, when that counts 3,
// mov dx, 0xf4; mov al, 7; out dx, al; else mov dx, 0xcf9; mov al, 6; out dx, al; jmp $
const resetsTwice = flat(
  '66baf803' +
    'b041' +
    'ee' +
    'f0ff0500002000' +
    '833d0000200003' +
    '7509' +
    '66baf400' +
    'b007' +
    'ee' +
    'eb07' +
    '66baf90c' +
    'b006' +
    'ee' +
    'ebfe',
)

test('states and events of an ordinary life', async () => {
  const machine = await create({ kernel: echoKernel })
  const seen = eventsOf(machine)
  expect(machine.state).toBe('created')
  const end = machine.run()
  expect(machine.state).toBe('running')
  await machine.pause()
  expect(machine.state).toBe('paused')
  machine.resume()
  machine.serial.write('q')
  const ended = once(machine, 'ended')
  expect(await end).toEqual({ reason: 'powerOff' })
  expect(await ended).toEqual([{ reason: 'powerOff' }])
  expect(machine.state).toBe('ended')
  await machine.close()
  expect(machine.state).toBe('closed')
  expect(seen).toEqual(['started', 'paused', 'resumed', 'ended', 'closed'])
})

test('a paused guest holds still', async () => {
  // inc dword ptr [0x200000]; jmp back
  await using machine = await create(flat('ff0500002000' + 'ebf8'))
  const end = machine.run()
  const count = () => machine.memory.readU32(0x20_0000)
  while (count() === 0) await setImmediate()
  await machine.pause()
  const before = count()
  for (let i = 0; i < 20; i++) await setImmediate()
  expect(count()).toBe(before)
  machine.resume()
  while (count() === before) await setImmediate()
  await machine.stop()
  expect(await end).toEqual({ reason: 'stopped' })
})

test('a reset by the guest ends the run, or restarts the machine', async () => {
  await using ending = await create(resetsTwice)
  expect(await ending.run()).toEqual({ reason: 'reset' })

  const machine = await create(resetsTwice, { onReset: 'restart', cpus: 2 })
  const output = text(machine.serial)
  const seen = eventsOf(machine)
  // RAM keeps what the guest counted; its code was loaded anew.
  expect(await machine.run()).toEqual({ reason: 'exit', status: 7 })
  await machine.close()
  expect(await output).toBe('AAA')
  expect(seen).toEqual(['started', 'reset', 'started', 'reset', 'started', 'ended', 'closed'])
})

test.each(['running', 'paused'])('reset() starts a %s guest that spins anew', async (state) => {
  // inc dword ptr [0x200000]; jmp $
  await using machine = await create(flat('ff0500002000' + 'ebfe'), { cpus: 2 })
  const end = machine.run()
  const count = () => machine.memory.readU32(0x20_0000)
  while (count() < 1) await setImmediate()
  if (state === 'paused') await machine.pause()
  machine.reset()
  while (count() < 2) await setImmediate()
  expect(machine.state).toBe('running')
  await machine.stop()
  await end
})

test('a triple fault names vCPU, address and code', async () => {
  await using machine = await create({ kernel: crashKernel }, { cpus: 2 })
  const seen = eventsOf(machine)
  const crash = await crashOf(machine)
  expect(crash).toMatchObject({ code: 'ERR_KVM_GUEST_CRASH', vcpuId: 0 })
  expect(crash.message).toMatch(/^the guest triple-faulted at rip 0x[0-9a-f]+ of vCPU 0$/)
  expect(crash.vcpus.map(({ id }) => id)).toEqual([0, 1])
  expect(crash.vcpus[0]!.regs.rsp).toBe(0n)
  expect(crash.report).toMatch(/rip {4}[0-9a-f]{16}/)
  // KERNEL: with SVM the vCPU is as after a reset by then.
  const reset = crash.vcpus[0]!.regs.rip === 0xfff0n
  if (!reset) expect(crash.report).toMatch(/0f0b/)
  expect(seen).toEqual(['started', 'crashed'])
  expect(machine.state).toBe('ended')
})

test('a panic reported by pvpanic is a crash; one with a crash kernel is an event', async () => {
  // mov dx, 0x505; mov al, 1; out dx, al; jmp $
  await using panics = await create(flat('66ba0505' + 'b001' + 'ee' + 'ebfe'))
  expect((await crashOf(panics)).message).toMatch(
    /^the guest's kernel panicked at rip 0x10000[67] /,
  )

  // the same with 2, then mov dx, 0xf4; out dx, al
  await using goesOn = await create(flat('66ba0505' + 'b002' + 'ee' + '66baf400' + 'ee' + 'ebfe'))
  const seen = eventsOf(goesOn)
  expect(await goesOn.run()).toEqual({ reason: 'exit', status: 2 })
  expect(seen).toEqual(['started', 'panicked', 'ended'])
})

test('an exception of a device ends the run and says where', async () => {
  // mov dx, 0x500; in al, dx; jmp $
  await using machine = await create(flat('66ba0005' + 'ec' + 'ebfe'))
  machine.ports.add(0x500, 1, {
    name: 'broken',
    read: () => {
      throw new Error('out of paper')
    },
    write: () => {},
  })
  const crash = await crashOf(machine)
  expect(crash).toMatchObject({ code: 'ERR_KVM_DEVICE', vcpuId: 0 })
  expect(crash.message).toMatch(
    /^device broken: read of 1 bytes at 0x500 failed: out of paper at rip 0x10000[45] of vCPU 0$/,
  )
  expect(crash.cause).toMatchObject({ device: 'broken', address: 0x500 })
})

test('an exception of a listener is the run’s, and ends its threads', async () => {
  await using machine = await create({ kernel: spinKernel }, { cpus: 2 })
  machine.on('started', () => {
    throw new Error('no')
  })
  const crash = await crashOf(machine)
  expect(crash.message).toMatch(/^no at rip 0x[0-9a-f]+ of vCPU 0$/)
  expect(crash.cause).toMatchObject({ message: 'no' })
  expect(machine.vcpus.map(({ tid }) => tid)).toEqual([undefined, undefined])
})

test('stop() before the run leaves it to run', async () => {
  await using machine = await create({ kernel: crashKernel })
  await machine.stop()
  expect((await crashOf(machine)).code).toBe('ERR_KVM_GUEST_CRASH')
})

test('the debug port is a stream of its own', async () => {
  // mov al, 'd'; out 0xe9, al; mov dx, 0x402; out dx, al; in al, 0xe9; mov dx, 0xf4; out dx, al
  await using machine = await create(
    flat('b064' + 'e6e9' + '66ba0204' + 'ee' + 'e4e9' + '66baf400' + 'ee' + 'ebfe'),
  )
  const output = text(machine.debug)
  expect(await machine.run()).toEqual({ reason: 'exit', status: 0xe9 })
  await machine.close()
  expect(await output).toBe('dd')
})

test('calls out of turn are refused, and close is legal in every state', async () => {
  const machine = await create({ kernel: spinKernel })
  const busy = { code: 'ERR_KVM_BUSY' }
  await expect(machine.pause()).rejects.toMatchObject(busy)
  for (const call of ['resume', 'reset', 'powerButton'] as const) {
    expect(() => machine[call]()).toThrow(expect.objectContaining(busy))
  }
  const end = machine.run()
  expect(() => machine.resume()).toThrow(expect.objectContaining(busy))
  const paused = machine.pause()
  await machine.close()
  await paused
  expect(await end).toEqual({ reason: 'stopped' })
  for (const call of ['resume', 'reset', 'powerButton'] as const) {
    expect(() => machine[call]()).toThrow(expect.objectContaining(busy))
  }
  const unused = await create({ kernel: spinKernel })
  await unused.close()
  await expect(unused.run()).rejects.toMatchObject(busy)
  await expect(create({ kernel: spinKernel }, { onReset: 'no' as 'end' })).rejects.toMatchObject({
    code: 'ERR_INVALID_ARG_TYPE',
  })
})

test('writes to port 0x80 pass the time without JavaScript', async () => {
  // mov ecx, 100; L: out 0x80, al; loop L; mov al, 3; out 0xf4, al
  await using machine = await create(flat('b964000000' + 'e680' + 'e2fc' + 'b003' + 'e6f4'))
  expect(await machine.run()).toEqual({ reason: 'exit', status: 3 })
  const [io] = machine.vcpus[0]!.statistics.types
  expect(io).toMatchObject({ type: 'io', count: 101, answered: 100 })
})
