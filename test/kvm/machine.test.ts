// A whole machine: its life, its ends, two at once.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type ImageProgress, Machine } from '../../src/index.js'
import { ELF_LOAD_GPA } from '../helpers/boot-images.js'
import { crashKernel, echoKernel, spinKernel } from '../helpers/small-kernels.js'

const create = (kernel: Uint8Array, cpus = 1) =>
  Machine.create({ cpus, memory: '16M', boot: { kernel } })

/** Resolves when the machine has printed `text`. */
async function printed(machine: Machine, text: string): Promise<void> {
  let output = ''
  for await (const chunk of machine.serial.iterator({ destroyOnReturn: false })) {
    output += chunk
    if (output.endsWith(text)) return
  }
}

test('a guest that powers off ends the run', async () => {
  await using machine = await create(echoKernel)
  const end = machine.run()
  await printed(machine, '>')
  machine.serial.write('q')
  expect(await end).toEqual({ reason: 'powerOff' })
})

test('two machines run at once and do not hear each other', async () => {
  await using first = await create(echoKernel)
  await using second = await create(echoKernel)
  const ends = [first.run(), second.run()]
  await Promise.all([printed(first, '>'), printed(second, '>')])
  first.serial.write('1q')
  await printed(first, '1q')
  expect(await ends[0]).toEqual({ reason: 'powerOff' })
  second.serial.write('2q')
  await printed(second, '2q')
  expect(await ends[1]).toEqual({ reason: 'powerOff' })
})

test('a triple fault rejects the run and says where', async () => {
  await using machine = await create(crashKernel)
  await expect(machine.run()).rejects.toMatchObject({
    code: 'ERR_KVM_GUEST_CRASH',
    message: expect.stringMatching(/triple-faulted at rip 0x[0-9a-f]+ of vCPU 0/),
  })
})

test('stop() ends a guest that spins', async () => {
  await using machine = await create(spinKernel)
  const end = machine.run()
  await machine.stop()
  expect(await end).toEqual({ reason: 'stopped' })
})

test('an aborted signal rejects with its reason', async () => {
  await using machine = await create(spinKernel)
  const reason = new Error('enough')
  const abort = new AbortController()
  const end = machine.run({ signal: abort.signal })
  abort.abort(reason)
  await expect(end).rejects.toMatchObject({ code: 'ABORT_ERR', cause: reason })
})

test('a machine runs once', async () => {
  await using machine = await create(spinKernel)
  const end = machine.run()
  await expect(machine.run()).rejects.toMatchObject({ code: 'ERR_KVM_BUSY' })
  await machine.stop()
  await end
})

test('closing a running machine ends it; closing twice is legal', async () => {
  const machine = await create(spinKernel, 2)
  const end = machine.run()
  await machine.close()
  await machine.close()
  expect(await end).toEqual({ reason: 'stopped' })
})

test.each([
  ['no options', undefined, 'ERR_INVALID_ARG_TYPE'],
  ['no boot', {}, 'ERR_INVALID_ARG_TYPE'],
  ['no processors', { cpus: 0, boot: { kernel: echoKernel } }, 'ERR_OUT_OF_RANGE'],
  ['a size that is none', { memory: 'much', boot: { kernel: echoKernel } }, 'ERR_INVALID_ARG_TYPE'],
  ['an uneven size', { memory: 4097, boot: { kernel: echoKernel } }, 'ERR_OUT_OF_RANGE'],
  ['no kernel', { boot: {} }, 'ERR_INVALID_ARG_TYPE'],
  ['a kernel that is none', { boot: { kernel: Buffer.from('hello') } }, 'ERR_BOOT_BAD_IMAGE'],
])('%s is refused', async (_, options, code) => {
  await expect(Machine.create(options as never)).rejects.toMatchObject({ code })
})

test('an MP table stands where guests without ACPI look for one, if it can name all processors', async () => {
  const signature = (machine: Machine) =>
    Buffer.from(machine.memory.read(0xf_c000, 4)).toString('latin1')
  await using few = await create(spinKernel, 254)
  expect(signature(few)).toBe('_MP_')
  await using many = await create(spinKernel, 255)
  expect(signature(many)).toBe('\0\0\0\0')
})

test('tells how far the files of its images have been read', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'node-kvm-machine-'))
  const kernel = join(folder, 'kernel')
  try {
    writeFileSync(kernel, Buffer.concat([echoKernel, Buffer.alloc(9 * 2 ** 20)]))
    const seen: ImageProgress[] = []
    const boot = { kernel, initrd: Buffer.alloc(100) }
    const onProgress = (progress: ImageProgress) => seen.push(progress)
    await using machine = await Machine.create({ memory: '32M', boot, onProgress })
    const total = echoKernel.length + 9 * 2 ** 20
    expect(machine.state).toBe('created')
    expect(seen.length).toBe(4)
    expect(seen[0]).toEqual({ path: kernel, loaded: 0, total })
    expect(seen.at(-1)).toEqual({ path: kernel, loaded: total, total })
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a file that is booted is mapped, takes no memory once it is in RAM, and is there for a reset', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'node-kvm-machine-'))
  const kernel = join(folder, 'kernel')
  try {
    writeFileSync(kernel, Buffer.concat([echoKernel, Buffer.alloc(2 ** 20)]))
    await using machine = await Machine.create({ memory: '32M', boot: { kernel } })
    const mapping = () => {
      const mappings = readFileSync('/proc/self/smaps', 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
      return mappings.find((each) => each.includes(kernel))
    }
    expect(mapping()).toMatch(/^Rss: +0 kB$/m)
    const run = machine.run()
    await printed(machine, '>')
    machine.reset()
    await printed(machine, '>')
    machine.serial.write('q')
    expect(await run).toEqual({ reason: 'powerOff' })
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('its RAM is allocated as asked for', async () => {
  const memoryOptions = { backing: 'anonymous', thp: 'madvise' } as const
  await using machine = await Machine.create({ memoryOptions, boot: { kernel: spinKernel } })
  expect(machine.memory.pageState(ELF_LOAD_GPA)).toMatchObject({ present: true, file: false })
  await using usual = await create(spinKernel)
  expect(usual.memory.pageState(ELF_LOAD_GPA)).toMatchObject({ present: true, file: true })
})

test('a file that cannot be mapped is read', async () => {
  // Of sysfs, which has no pages to map.
  const flat = '/sys/kernel/notes'
  await using machine = await Machine.create({ boot: { flat, gpa: 0x1_0000, mode: 'real' } })
  const content = readFileSync(flat)
  expect(content.length).toBeGreaterThan(0)
  expect(machine.memory.read(0x1_0000, content.length)).toEqual(new Uint8Array(content))
})
