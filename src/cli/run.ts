// `node-kvm run`: boots Linux with the terminal on its serial port.

import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { traceToJson } from '../core/exit-trace.js'
import { MachineCrash } from '../machine/crash.js'
import { Machine } from '../machine/machine.js'
import { exitTable } from './exit-table.js'

/** Help for `node-kvm run`. */
export const usage = `Usage: node-kvm run --kernel FILE [options]

Boots a Linux kernel in this process, the terminal on its first serial port.

  -k, --kernel FILE     bzImage, or ELF64 vmlinux
  -i, --initrd FILE     initial RAM disk
  -c, --cmdline TEXT    kernel command line (default: console=ttyS0)
  -m, --memory SIZE     RAM, such as 512M or 2G (default: 256M)
      --cpus N          vCPUs (default: 1)
      --protocol P      auto, linux64 or pvh (default: auto)
      --timeout SECONDS end the machine after so long, with status 124
      --stats           say at the end how often each vCPU exited, and where time went
      --trace FILE      write the latest exits as a trace for ui.perfetto.dev

Ctrl-A X leaves, Ctrl-A Ctrl-A sends Ctrl-A. The exit status is 0 when the guest
powers off or reboots, 1 when it crashes or cannot be started.`

const CTRL_A = 0x01

/** Runs the command; resolves to the exit status. */
export async function run(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      kernel: { type: 'string', short: 'k' },
      initrd: { type: 'string', short: 'i' },
      cmdline: { type: 'string', short: 'c', default: 'console=ttyS0' },
      memory: { type: 'string', short: 'm', default: '256M' },
      cpus: { type: 'string', default: '1' },
      protocol: { type: 'string', default: 'auto' },
      timeout: { type: 'string' },
      stats: { type: 'boolean' },
      trace: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help || values.kernel === undefined) {
    const [stream, status] = values.help ? [process.stdout, 0] : [process.stderr, 2]
    stream.write(`${usage}\n`)
    return status as number
  }
  await using machine = await Machine.create({
    cpus: Number(values.cpus),
    memory: values.memory,
    holdSerialInput: !process.stdin.isTTY,
    boot: {
      kernel: values.kernel,
      ...(values.initrd === undefined ? {} : { initrd: values.initrd }),
      cmdline: values.cmdline,
      protocol: values.protocol as 'auto' | 'linux64' | 'pvh',
    },
  })
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

/** Begins to measure what was asked for; gives back how to report it. */
function observe(machine: Machine, options: { stats?: boolean; trace?: string }): () => void {
  const { vcpus } = machine
  if (options.stats) for (const { statistics } of vcpus) statistics.timed = true
  const traces = options.trace === undefined ? [] : vcpus.map((vcpu) => vcpu.startTrace())
  return () => {
    if (options.stats) process.stderr.write(`\n${exitTable(vcpus)}\n`)
    if (options.trace !== undefined) writeFileSync(options.trace, traceToJson(traces))
  }
}

async function runOnTerminal(machine: Machine, timeout: number | undefined): Promise<number> {
  const { stdin, stdout } = process
  const leave = new AbortController()
  const timer = timeout && setTimeout(() => leave.abort('timeout'), timeout * 1000)
  const detach = attachInput(machine, () => leave.abort('left'))
  machine.serial.pipe(stdout, { end: false })
  try {
    await machine.run({ signal: leave.signal })
    return 0
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
    // A file as standard input has no such method, and keeps nothing alive.
    if ('unref' in stdin) stdin.unref()
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
  }
}
