// `node-kvm run`: boots Linux with the terminal on its serial port.

import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { traceToJson } from '../core/exits/exit-trace.js'
import { MachineCrash } from '../machine/crash.js'
import { Machine } from '../machine/machine.js'
import { createDevices, deviceUsage } from './device-specs.js'
import { dryRun } from './dry-run.js'
import { exitTable } from './exit-table.js'
import { imageProgress } from './image-progress.js'
import { fillFwCfg, machineOptions } from './machine-options.js'
import { standardOutput } from './standard-output.js'
import { isTerminal } from './terminal.js'
import { timelineSvg, timelineText } from './timeline.js'

/** Help for `node-kvm run`. */
export const usage = `Usage: node-kvm run --kernel FILE [options]
       node-kvm run --config FILE [options]

Boots a kernel in this process, the terminal on its first serial port.

  -k, --kernel FILE     bzImage, ELF64 vmlinux, or multiboot kernel
  -i, --initrd FILE     initial RAM disk
  -c, --cmdline TEXT    kernel command line (default: console=ttyS0)
      --module FILE     a module for a multiboot kernel; may be repeated
      --protocol P      auto, linux64, pvh or multiboot (default: auto)
      --firmware FILE   start firmware instead of a kernel
  -m, --memory SIZE     RAM, such as 512M or 2G (default: 256M)
      --thp             ask the host for transparent huge pages
      --cpus N          vCPUs (default: 1)
      --threads N       of them in each core (default: 1)
      --cores N         in each socket (default: all in one)
      --cpu MODEL       host, x86-64, x86-64-v2, -v3 or -v4; then features to add or hide,
                        as in x86-64-v3,pcid,-avx2 (default: host)
      --device KIND[,KEY=VALUE...]
                        a virtio device; may be repeated. Each can have
                        transport=pci|mmio, slot=N, packed, inOrder. Kinds:
${deviceUsage()}
      --net KIND=...    a network card; may be repeated: tap=NAME, passt=SOCKET,
                        stream=PATH or HOST:PORT, dgram=HOST:PORT,local=HOST:PORT;
                        with ,queues=N ,mac=ADDRESS ,mtu=BYTES
      --config FILE     take all this from a JSON file; other options count before it
      --dry-run         load the images, say what goes where, and do not run
      --debug-port      copy what the guest writes to port 0x402 to standard error
      --timeout SECONDS end the machine after so long, with status 124
      --stats           say at the end how often each vCPU exited, and where time went
      --timeline        say at the end what happened when, from the process's start on
      --timeline-svg FILE  write that as a picture
      --trace FILE      write the latest exits as a trace for ui.perfetto.dev

Ctrl-A X leaves, Ctrl-A P presses the power button, Ctrl-A Ctrl-A sends Ctrl-A. The exit status is 0 when the guest
powers off or reboots, what it writes to port 0xf4, or 1 when it crashes or cannot
be started.`

const CTRL_A = 0x01

const STDERR = 2

/** Runs the command; resolves to the exit status. */
export async function run(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      kernel: { type: 'string', short: 'k' },
      initrd: { type: 'string', short: 'i' },
      cmdline: { type: 'string', short: 'c' },
      module: { type: 'string', multiple: true },
      protocol: { type: 'string' },
      firmware: { type: 'string' },
      memory: { type: 'string', short: 'm' },
      thp: { type: 'boolean' },
      cpus: { type: 'string' },
      threads: { type: 'string' },
      cores: { type: 'string' },
      cpu: { type: 'string' },
      device: { type: 'string', multiple: true },
      net: { type: 'string', multiple: true },
      config: { type: 'string' },
      'dry-run': { type: 'boolean' },
      'debug-port': { type: 'boolean' },
      timeout: { type: 'string' },
      stats: { type: 'boolean' },
      timeline: { type: 'boolean' },
      'timeline-svg': { type: 'string' },
      trace: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  const options = values.help ? undefined : machineOptions(values)
  if (options === undefined) {
    const [stream, status] = values.help ? [standardOutput(), 0] : [process.stderr, 2]
    stream.write(`${usage}\n`)
    return status as number
  }
  if (values['dry-run']) {
    standardOutput().write(`${await dryRun(options)}\n`)
    return 0
  }
  const progress = isTerminal(STDERR) ? { onProgress: imageProgress(process.stderr) } : {}
  const devices = await createDevices(options.devices)
  await using machine = await Machine.create({ ...options, ...progress, devices })
  fillFwCfg(machine, options.fwCfg)
  if (values['debug-port']) machine.debug.pipe(process.stderr, { end: false })
  const report = observe(machine, values)
  try {
    return await runOnTerminal(
      machine,
      values.timeout === undefined ? undefined : Number(values.timeout),
    )
  } finally {
    report()
  }
}

/** What the command line may ask to be told. */
interface Observations {
  stats?: boolean
  timeline?: boolean
  'timeline-svg'?: string
  trace?: string
}

/** Begins to measure what was asked for; gives back how to report it. */
function observe(machine: Machine, options: Observations): () => void {
  const { vcpus, timeline } = machine
  if (options.stats) for (const { statistics } of vcpus) statistics.timed = true
  const traces = options.trace === undefined ? [] : vcpus.map((vcpu) => vcpu.startTrace())
  return () => {
    if (options.stats) process.stderr.write(`\n${exitTable(vcpus)}\n`)
    timeline.mark('end')
    if (options.timeline) process.stderr.write(`\n${timelineText(timeline.marks)}\n`)
    const picture = options['timeline-svg']
    if (picture !== undefined) writeFileSync(picture, timelineSvg(timeline.marks))
    if (options.trace !== undefined) writeFileSync(options.trace, traceToJson(traces))
  }
}

async function runOnTerminal(machine: Machine, timeout: number | undefined): Promise<number> {
  const leave = new AbortController()
  const timer = timeout && setTimeout(() => leave.abort('timeout'), timeout * 1000)
  // The guest begins first: the streams, which take some milliseconds to make, are there before it needs them.
  const ended = machine.run({ signal: leave.signal })
  // Heard below, unless the terminal fails first: the machine is closed then.
  ended.catch(() => {})
  const detach = attachInput(machine, () => leave.abort('left'))
  machine.serial.pipe(standardOutput(), { end: false })
  try {
    const { status = 0 } = await ended
    return status & 0xff
  } catch (error) {
    if (leave.signal.reason === 'timeout') process.stderr.write('\nnode-kvm: time is up\n')
    if (leave.signal.aborted) return leave.signal.reason === 'timeout' ? 124 : 0
    if (error instanceof MachineCrash) {
      process.stderr.write(`\nnode-kvm: ${error.report}\n`)
      return 1
    }
    throw error
  } finally {
    clearTimeout(timer || undefined)
    detach()
  }
}

/** Feeds the terminal to the guest, byte by byte as typed; gives back how to end that. */
function attachInput(machine: Machine, leave: () => void): () => void {
  const { stdin } = process
  const tty = stdin.isTTY
  if (tty) stdin.setRawMode(true)
  let escaped = false
  const onData = (chunk: Buffer) => {
    const bytes: number[] = []
    for (const byte of chunk) {
      if (tty && !escaped && byte === CTRL_A) {
        escaped = true
        continue
      }
      if (escaped && (byte | 0x20) === 0x78) leave()
      else if (escaped && (byte | 0x20) === 0x70) machine.powerButton()
      else bytes.push(byte)
      escaped = false
    }
    if (bytes.length === 0) return
    if (!machine.serial.write(Buffer.from(bytes))) {
      stdin.pause()
      machine.serial.once('drain', () => stdin.resume())
    }
  }
  stdin.on('data', onData)
  return () => {
    stdin.off('data', onData)
    stdin.pause()
    if (tty) stdin.setRawMode(false)
    // A file as standard input has no such method, and keeps nothing alive.
    if ('unref' in stdin) stdin.unref()
  }
}
