// Many VMs in one process at once, each with a vCPU thread that runs, exits, and halts; then all are
// closed. Prints what a VM costs beyond its RAM and how many threads and files there were.
//
//   node --expose-gc test/process/many-vms.mjs [VMs]        1000 unless said
//
// Ends with status 1 when a VM takes more than 1 MiB, or when files or threads stay.

import { readdirSync, readFileSync } from 'node:fs'
import { createGuest, HALT } from './fixtures/guest.mjs'

const count = Number(process.argv[2] ?? 1000)
const LIMIT = 2 ** 20
const RAM = 2 ** 20
const OUT_AND_HALT = [0xe6, 0x10, ...HALT] // out 0x10, al

const turn = () => new Promise((resolve) => setImmediate(resolve))
async function collect() {
  for (let i = 0; i < 5; i++) {
    globalThis.gc()
    await turn()
  }
}

function field(file, name) {
  const match = new RegExp(`^${name}:\\s*(\\d+) kB`, 'm').exec(readFileSync(file, 'utf8'))
  return Number(match[1]) * 1024
}

/** What of the kernel's memory grows with VMs; that of other processes, too. */
const KERNEL = ['Slab', 'KernelStack', 'PageTables', 'Percpu', 'VmallocUsed']

/** Guest RAM is shared memory: what is anonymous, or a page table, is a VM's cost to the process. */
function measure() {
  return {
    process:
      field('/proc/self/status', 'RssAnon') +
      field('/proc/self/status', 'RssFile') +
      field('/proc/self/status', 'VmPTE'),
    kernel: KERNEL.reduce((sum, name) => sum + field('/proc/meminfo', name), 0),
    threads: readdirSync('/proc/self/task').length,
    fds: readdirSync('/proc/self/fd').length,
  }
}

/** Of this process; workers of the kernel's that KVM attaches to it, and the watchdog, may stay. */
const ownThreads = () =>
  readdirSync('/proc/self/task').filter((tid) => {
    const name = readFileSync(`/proc/self/task/${tid}/comm`, 'utf8')
    return !/^kvm-(watchdog|nx-lpage)/.test(name)
  }).length

async function run(vms) {
  const guests = []
  const exits = []
  for (let i = 0; i < vms; i++) {
    const guest = createGuest(OUT_AND_HALT, { irqchip: true })
    guests.push(guest)
    exits.push(new Promise((resolve) => guest.vcpu.start((exit) => resolve(exit.type))))
  }
  const types = await Promise.all(exits)
  if (types.some((type) => type !== 'io')) throw new Error(`exits: ${new Set(types)}`)
  await collect()
  const peak = measure()
  await Promise.all(guests.map(({ vcpu }) => vcpu.stop()))
  for (const guest of guests) guest.close()
  return peak
}

await run(1) // opens what all of them share
await collect()
const before = { ...measure(), own: ownThreads() }
const peak = await run(count)
await collect()
const after = { ...measure(), own: ownThreads() }
const each = (what) => (peak[what] - before[what]) / count
const kib = (bytes) => `${Math.round(bytes / 1024)} KiB`

console.log(
  [
    `${count} VMs of ${kib(RAM)} of RAM, each with a vCPU thread`,
    `each, beyond its RAM: ${kib(each('process'))} in the process`,
    `                      ${kib(each('kernel'))} in the kernel, page tables counted again`,
    `peak: ${peak.threads} threads, ${peak.fds} file descriptors`,
    `left: ${after.own - before.own} threads, ${after.fds - before.fds} file descriptors`,
  ].join('\n'),
)
// The kernel's figure counts other processes, so that only a large number of VMs says something.
const tooMuch = each('process') + (count >= 1000 ? each('kernel') : 0) > LIMIT
process.exitCode = tooMuch || after.own > before.own || after.fds > before.fds ? 1 : 0
