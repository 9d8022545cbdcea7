// Runs a command in a fresh Linux that has no disk and no network. Files go in, and come back, through
// console ports; so do the command's output and its exit status. Nothing of the guest is left behind, but
// what it put into its folder `out` is in that of the caller.
//
//   npx tsx examples/sandbox.ts 'wc -l <words >out/count' words=/etc/services
//
// The kernel and its initial RAM disk are those of the lab (docs/lab.md).

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Machine } from 'node-kvm'
import { readCpio, writeCpio } from 'node-kvm/boot'
import { type ConsolePort, VirtioConsole } from 'node-kvm/devices'
import { initramfs, kernelElf } from '../lab/linux.mjs'

/** What is to run, and on what. */
export interface Job {
  /** For the guest's shell, in a folder with the files; what it puts in `out/` comes back. */
  readonly command: string
  readonly files?: Readonly<Record<string, Uint8Array>>
  /** Ends the guest, whatever it does. */
  readonly signal?: AbortSignal
}

/** How it ended. */
export interface JobResult {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
  readonly files: Readonly<Record<string, Uint8Array>>
}

const PORTS = ['files', 'stdout', 'stderr', 'status', 'results'] as const

// Without udev a port's name is only to be found in sysfs, where it comes a moment after the driver.
const GUEST = `
port() {
  found=$(grep -lx "$1" /sys/class/virtio-ports/*/name)
  found=\${found%/name}
  echo "/dev/\${found##*/}"
}
until grep -qx results /sys/class/virtio-ports/*/name 2>/dev/null; do sleep 0.1; done
mkdir -p /job/out
cd /job
cpio -id <$(port files) 2>/dev/null
sh /job/.command >$(port stdout) 2>$(port stderr) </dev/null
echo $? >$(port status)
cd out
find . -type f | sed 's,^..,,' | cpio -o -H newc >$(port results) 2>/dev/null
`

/** Boots a guest, runs the job in it, and takes the guest down. */
export async function runInSandbox({ command, files = {}, signal }: Job): Promise<JobResult> {
  const ports = new VirtioConsole({ ports: PORTS.map((name) => ({ name })) })
  const [input, ...outputs] = PORTS.map((name) => ports.port(name)!)
  await using machine = await Machine.create({
    memory: '512M',
    boot: {
      kernel: kernelElf(),
      initrd: initramfs(GUEST, { end: 'reboot', modules: ['virtio_pci', 'virtio_console'] }),
      cmdline: 'console=ttyS0 quiet panic=-1 reboot=k',
    },
    devices: [ports],
  })
  // The archive waits until the guest has opened the port.
  input!.end(archive({ ...files, '.command': Buffer.from(command) }))
  const collected = Promise.all(outputs.map(collect))
  const { reason } = await machine.run(signal === undefined ? {} : { signal })
  // What a guest that died has not closed ends with the machine.
  await machine.close()
  const [stdout, stderr, status, results] = await collected
  if (status?.length === 0) throw new Error(`the guest ended before the command did: ${reason}`)
  return {
    status: Number(status),
    stdout: `${stdout}`,
    stderr: `${stderr}`,
    files: Object.fromEntries(unpack(results!)),
  }
}

/** All that the guest writes to a port until it closes it, or the machine is closed. */
function collect(port: ConsolePort): Promise<Buffer> {
  const chunks: Buffer[] = []
  port.on('data', (bytes: Buffer) => chunks.push(bytes))
  return new Promise((resolve) => {
    for (const end of ['guestClose', 'end']) port.once(end, () => resolve(Buffer.concat(chunks)))
  })
}

function archive(files: Readonly<Record<string, Uint8Array>>): Uint8Array {
  const entries = Object.entries(files)
  return writeCpio(entries.map(([path, data]) => ({ type: 'file', path, data })))
}

/** The archive is the guest's: only plain names are taken from it. */
function* unpack(bytes: Uint8Array): Generator<[string, Uint8Array]> {
  if (bytes.length === 0) return
  for (const entry of readCpio(bytes).entries) {
    if (entry.type === 'file' && /^[\w][\w.-]*$/.test(entry.path)) yield [entry.path, entry.data]
  }
}

async function main([command, ...named]: string[]): Promise<number> {
  if (command === undefined) throw new Error('usage: sandbox.ts COMMAND [NAME=FILE...]')
  const files = named.map((argument) => {
    const [name, path = name] = argument.split('=', 2)
    return [name!, readFileSync(path!)] as const
  })
  const result = await runInSandbox({ command, files: Object.fromEntries(files) })
  process.stdout.write(result.stdout)
  process.stderr.write(result.stderr)
  mkdirSync('out', { recursive: true })
  for (const [name, data] of Object.entries(result.files)) writeFileSync(join('out', name), data)
  return result.status
}

if (import.meta.filename === process.argv[1]) process.exitCode = await main(process.argv.slice(2))
