// @ts-check
// npm run lab -- --threads multi node lab/compare-boot.mjs [--rounds N] [--loud] [--where] [--json]: Debian's kernel and one
// initramfs booted by node-kvm and by QEMU's microvm and q35 machines, in turn, on the KVM of the emulated machine.
// --loud lets the kernel print its messages, --where tells which ports and addresses the guests of one boot each
// accessed. Needs root and tracefs, so it is for the lab.
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { countExits, openTrace } from './kvm-trace.mjs'
import { initramfs, kernelElf } from './linux.mjs'

const MARK = 'this is user space'
const MEMORY = '512'
const TICKS_PER_SECOND = 100
const root = join(import.meta.dirname, '..')

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    loud: { type: 'boolean', default: false },
    where: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
})
const cmdline = `console=ttyS0 panic=-1 ${options.loud ? '' : 'quiet'}`.trim()
const kernel = kernelElf()
const initrd = initramfs(`echo "${MARK}"; sleep 1`, { end: 'poweroff' })

// Who names more certificates by it has each node read them at its start, a second long in here. A machine needs none.
const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env

/** @param {string} machine */
const qemu = (machine) => [
  ...['qemu-system-x86_64', '-accel', 'kvm', '-cpu', 'host', '-M', machine, '-m', MEMORY],
  ...['-nodefaults', '-no-user-config', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
  ...['-kernel', kernel, '-initrd', initrd, '-append', cmdline],
]

/** What is compared, all with transparent huge pages, which QEMU asks for by itself. Without its clock, microvm has Debian's kernel wait for one, 20 000 reads long. */
const contenders = {
  'node-kvm': [
    ...[process.execPath, join(root, 'lib/cli/main.cjs'), 'run', '--memory', `${MEMORY}M`, '--thp'],
    ...['--kernel', kernel, '--initrd', initrd, '--cmdline', cmdline],
  ],
  microvm: qemu('microvm,rtc=on'),
  q35: qemu('q35'),
}

/** @param {number} pid CPU seconds so far */
function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

/**
 * What a process has in memory beside its guest's RAM, which is the largest of its mappings.
 *
 * @param {number} pid MiB
 */
function memoryBesideGuest(pid) {
  const mappings = readFileSync(`/proc/${pid}/smaps`, 'utf8').matchAll(/^Rss: +(\d+) kB$/gm)
  const kib = Array.from(mappings, ([, size]) => Number(size)).sort((a, b) => b - a)
  return kib.slice(1).reduce((sum, size) => sum + size, 0) / 1024
}

/** Accesses by place, those that the kernel answers among them: the traces, and how their counts are read. */
const places = [
  { name: 'port', event: 'kvm_pio', trigger: 'hist:keys=port.hex,rw:sort=hitcount.descending' },
  { name: 'gpa', event: 'kvm_mmio', trigger: 'hist:keys=gpa.hex,type:sort=hitcount.descending' },
]

/** @param {string} name @param {string[]} command */
async function printPlaces(name, command) {
  console.log(`${name}:`)
  const traces = places.map(({ name, event, trigger }) => openTrace(name, event, trigger))
  await boot(command)
  for (const [i, { event }] of places.entries()) {
    const counts = traces[i]?.read(`events/kvm/${event}/hist`).match(/^\{.*$/gm) ?? []
    console.log(counts.slice(0, 60).join('\n'))
    traces[i]?.close()
  }
}

/** @param {string[]} command @returns {Promise<Record<string, number>>} */
async function boot([program = '', ...args]) {
  const entry = openTrace('entry', 'kvm_entry', 'traceoff:1')
  const exits = countExits()
  const began = process.hrtime.bigint()
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], env })
  const { pid = 0 } = child
  let output = ''
  /** @type {Record<string, number> | undefined} */
  let figures
  child.stdout.on('data', (chunk) => {
    output += chunk
    if (figures !== undefined || !output.includes(MARK)) return
    const first = /(\d+)\.(\d{6}): kvm_entry/.exec(entry.read('trace')) ?? []
    const firstNs = BigInt(`${first[1]}${first[2]}000`)
    figures = {
      'first instruction ms': Number(firstNs - began) / 1e6,
      'user space ms': Number(process.hrtime.bigint() - began) / 1e6,
      'exits to user space': exits.count,
      'CPU s': cpuSeconds(pid),
      'memory beside RAM MiB': memoryBesideGuest(pid),
    }
  })
  await new Promise((resolve) => child.on('close', resolve))
  entry.close()
  exits.close()
  if (figures === undefined) throw new Error(`${program}: no user space:\n${output}`)
  return figures
}

/** @param {number[]} values */
function median(values) {
  const sorted = values.sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const [low = Number.NaN, high = Number.NaN] = [sorted.at(middle - 1), sorted.at(middle)]
  return sorted.length % 2 === 1 ? high : (low + high) / 2
}

/** @type {Record<string, Record<string, number>[]>} */
const runs = Object.fromEntries(Object.keys(contenders).map((name) => [name, []]))
// The first reads programs and images from the host's disk.
for (const [name, command] of Object.entries(contenders)) {
  if (!options.where) await boot(command)
  else await printPlaces(name, command)
}
for (let round = 0; round < Number(options.rounds); round++) {
  for (const [name, command] of Object.entries(contenders)) runs[name]?.push(await boot(command))
}
const table = Object.fromEntries(
  Object.entries(runs).map(([name, figures]) => [
    name,
    Object.fromEntries(
      Object.keys(figures[0] ?? {}).map((key) => {
        const value = median(figures.map((each) => each[key] ?? Number.NaN))
        return [key, Number(value.toFixed(1))]
      }),
    ),
  ]),
)
console.log(`Medians of ${options.rounds} rounds, "${cmdline}"`)
if (options.json) console.log(JSON.stringify({ runs, table }))
else console.table(table)
