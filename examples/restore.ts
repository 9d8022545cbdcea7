// A guest is saved to a file and a state; then it goes on many times over. Lazily: its RAM comes page
// by page from the file while it runs. As clones: each guest has the file as its RAM, and only the
// pages it writes are its own.
//
//   npx tsx examples/restore.ts [clones]

import { mkdtempSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  GuestMemory,
  Kvm,
  type MemoryUsage,
  Userfault,
  type UserfaultStatistics,
  type Vcpu,
  type VcpuState,
  type Vm,
} from 'node-kvm'
import { loadFlat } from 'node-kvm/boot'
import { CODE, image, READY_PORT, SIZE, SUM_PORT } from './guests/pages.js'

const PAGE = 4096

/** Runs the guest's first half; its RAM goes to `file`. Returns its vCPU's state. */
export async function save(file: string): Promise<VcpuState> {
  using kvm = Kvm.open()
  using vm = kvm.createVm()
  using memory = GuestMemory.create(SIZE)
  vm.mapMemory(memory)
  const boot = loadFlat(memory, {
    image,
    gpa: CODE,
    entry: CODE,
    mode: 'long',
    stackPointer: CODE,
  })
  using vcpu = vm.createVcpu(0)
  vcpu.setCpuid2(kvm.getSupportedCpuid())
  vcpu.updateSregs(boot.sregs)
  vcpu.updateRegs(boot.regs)
  expectPort(vcpu, READY_PORT)
  const state = vcpu.saveState()
  const output = await open(file, 'w')
  await output.truncate(SIZE)
  // Pages of zeros stay holes of the file.
  for (let gpa = 0; gpa < SIZE; gpa += PAGE) {
    if (!memory.isZero(gpa, PAGE)) await output.write(memory.view(gpa, PAGE), 0, PAGE, gpa)
  }
  await output.close()
  return state
}

export interface LazyRestore {
  sum: number
  /** When the guest had ended: only what it touched was read from the file. */
  atEnd: UserfaultStatistics
  /** After the rest was fetched too. */
  complete: UserfaultStatistics
}

/** Runs the second half; RAM is brought as the guest touches it, the rest in the end. */
export async function restoreLazily(file: string, state: VcpuState): Promise<LazyRestore> {
  using kvm = Kvm.open()
  using vm = kvm.createVm()
  using memory = GuestMemory.create(SIZE)
  using userfault = Userfault.create(memory, { missing: { file } })
  vm.mapMemory(memory)
  using vcpu = vm.createVcpu(0)
  vcpu.restoreState(state)
  const sum = expectPort(vcpu, SUM_PORT)
  const atEnd = userfault.statistics
  await userfault.prefetch()
  return { sum, atEnd, complete: userfault.statistics }
}

/** Runs the second half `count` times, in guests that are all there at once; what each costs. */
export function clone(file: string, state: VcpuState, count: number): MemoryUsage[] {
  using kvm = Kvm.open()
  const clones = Array.from({ length: count }, () => new Clone(kvm, file, state))
  const usages = clones.map((guest) => guest.memory.usage())
  for (const guest of clones) guest.close()
  return usages
}

class Clone {
  readonly memory: GuestMemory
  readonly #vm: Vm
  readonly #vcpu: Vcpu

  constructor(kvm: Kvm, file: string, state: VcpuState) {
    this.memory = GuestMemory.create(SIZE, { backing: { file, mode: 'private' } })
    this.#vm = kvm.createVm()
    this.#vm.mapMemory(this.memory)
    this.#vcpu = this.#vm.createVcpu(0)
    this.#vcpu.restoreState(state)
    expectPort(this.#vcpu, SUM_PORT)
  }

  close(): void {
    for (const part of [this.#vcpu, this.#vm, this.memory]) part.close()
  }
}

function expectPort(vcpu: Vcpu, port: number): number {
  const exit = vcpu.run()
  if (exit.type === 'io' && exit.port === port) return exit.value
  throw new Error(`unexpected exit ${exit.type}`)
}

const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(2)} MiB`
const sumOf = (values: number[]) => values.reduce((sum, value) => sum + value, 0)

async function main(count: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'node-kvm-restore-'))
  try {
    const file = join(folder, 'ram')
    const state = await save(file)
    const { sum, atEnd, complete } = await restoreLazily(file, state)
    console.log(`lazy restore: the guest says ${sum}`)
    console.log(`  ${atEnd.fromFile} of ${SIZE / PAGE} pages were read while it ran,`)
    console.log(`  ${complete.fromFile} after the rest was fetched`)
    const began = performance.now()
    const usages = clone(file, state, count)
    const own = usages.map(({ privateDirty }) => privateDirty)
    console.log(`${count} clones of ${mib(SIZE)} in ${Math.round(performance.now() - began)} ms`)
    console.log(`  mapped in each: ${mib(usages[0]!.rss)}`)
    console.log(`  of each alone: ${mib(Math.min(...own))} to ${mib(Math.max(...own))}`)
    console.log(`  of all together: ${mib(sumOf(own))}, not ${mib(count * SIZE)}`)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(Number(process.argv[2] ?? 100))
