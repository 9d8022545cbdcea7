// The processors of a machine: models, features by name, topology, as CPUID shows them to each vCPU.

import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { type CpuOptions, Kvm, Machine } from '../../src/index.js'
import { CpuidTable } from '../../src/x86/index.js'
import { makeElf, makeNote } from '../helpers/boot-images.js'
import { addDoorbell } from '../helpers/doorbell-function.js'
import { image, layout } from '../helpers/guests/platform.js'
import { echoKernel } from '../helpers/small-kernels.js'

const create = (options: CpuOptions) =>
  Machine.create({ memory: '16M', boot: { kernel: echoKernel }, ...options })

/** What the vCPUs were given. */
async function tablesOf(options: CpuOptions): Promise<CpuidTable[]> {
  await using machine = await create(options)
  return machine.vcpus.map((vcpu) => new CpuidTable(vcpu.getCpuid2()))
}

test('a model hides what is beyond it', async () => {
  const [host] = await tablesOf({})
  const [model] = await tablesOf({ cpuModel: 'x86-64' })
  expect(model!.features().filter((name) => !host!.has(name))).toEqual([])
  expect(model!.has('sse2')).toBe(true)
  // Some KVMs show features of the host whatever they are told: what they do so with is not looked at.
  using kvm = Kvm.open()
  const supported = new CpuidTable(kvm.getSupportedCpuid())
  const hidden = ['pni', 'avx', 'aes', 'rdrand', 'fsgsbase', 'rdseed']
  const beyond = hidden.filter((name) => supported.has(name))
  expect(beyond.filter((name) => model!.has(name))).toEqual([])
})

test('features are hidden by name', async () => {
  const [table] = await tablesOf({ cpuFeatures: { nx: false, hypervisor: false } })
  expect([table!.has('nx'), table!.has('hypervisor'), table!.has('sse2')]).toEqual([
    false,
    false,
    true,
  ])
})

test('the TSC deadline timer is there where KVM has it, if not hidden', async () => {
  using kvm = Kvm.open()
  const has = kvm.checkExtension('KVM_CAP_TSC_DEADLINE_TIMER') > 0
  const hidden = { cpuFeatures: { tsc_deadline_timer: false } }
  const options: CpuOptions[] = [{}, { cpuModel: 'x86-64' }, hidden]
  const tables = await Promise.all(options.map((each) => tablesOf(each)))
  expect(tables.map(([table]) => table!.has('tsc_deadline_timer'))).toEqual([has, has, false])
})

test('what the host lacks, or nobody knows, is refused with its name', async () => {
  const refused = async (options: CpuOptions) =>
    create(options).then(
      () => 'not refused',
      (error) => `${error.code}: ${error.message}`,
    )
  expect(await refused({ cpuFeatures: { ia64: true } })).toMatch(/ERR_OUT_OF_RANGE.*lacks ia64/)
  expect(await refused({ cpuFeatures: { nonsense: true } })).toMatch(/ERR_OUT_OF_RANGE.*nonsense/)
  expect(await refused({ cpuModel: 'z80' as 'host' })).toMatch(/ERR_INVALID_ARG_TYPE.*'x86-64-v4'/)
  expect(await refused({ threadsPerCore: 0 })).toMatch(/ERR_OUT_OF_RANGE/)
})

test('a topology gives ids with gaps, and every vCPU its own', async () => {
  const options = { cpus: 12, threadsPerCore: 2, coresPerSocket: 3 }
  await using machine = await create(options)
  expect(machine.vcpus.map(({ id }) => id)).toEqual([0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13])
  const last = new CpuidTable(machine.vcpus.at(-1)!.getCpuid2())
  const level = (subleaf: number) => last.find(0xb, subleaf)
  expect(level(0)).toMatchObject({ eax: 1, ebx: 2, edx: 13 })
  expect(level(1)).toMatchObject({ eax: 3, ebx: 6, edx: 13 })
})

test('a guest that knows only ACPI finds and starts them all', async () => {
  const entry = Buffer.alloc(4)
  entry.writeUInt32LE(layout.start)
  const paddr = BigInt(layout.gpa)
  const kernel = makeElf({
    entry: paddr,
    segments: [
      { vaddr: paddr, paddr, data: image, memorySize: 0x4000n },
      { type: 4, paddr: 0x20_0000n, data: makeNote('Xen', 18, entry) },
    ],
  })
  const cpus = { cpus: 12, threadsPerCore: 2, coresPerSocket: 3 }
  const machine = await Machine.create({ ...cpus, memory: '16M', boot: { kernel } })
  addDoorbell(machine, 3)
  const output = text(machine.serial)
  await machine.run({ signal: AbortSignal.timeout(60_000) }).finally(() => machine.close())
  expect(await output).toContain('processors 12, highest id 13;')
}, 70_000)
