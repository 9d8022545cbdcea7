// Debian's kernel, unmodified, booted by `node-kvm run` to a busybox shell that talks both ways and
// ends the machine: the packaged bzImage, and the vmlinux inside it by both of its entries.

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { FOR_LINUX_GUESTS } from '../../lab/guests.mjs'
import { initramfs, kernelBzImage, kernelElf } from '../../lab/linux.mjs'

const root = join(import.meta.dirname, '..', '..')
const SCRIPT = `
echo "processors: $(nproc)"
echo "memory: $(grep MemTotal /proc/meminfo)"
echo "type a line"
read line
echo "the guest read: $line"
`

interface Boot {
  status: number
  output: string
}

const boots = {
  bzImage: { kernel: kernelBzImage(), end: 'poweroff', args: ['--memory', '512M'] },
  pvh: { kernel: kernelElf(), end: 'reboot', args: ['--cpus', '2', '--protocol', 'pvh'] },
  linux64: {
    kernel: kernelElf(),
    end: 'poweroff',
    args: ['--memory', '5G', '--protocol', 'linux64'],
  },
} as const
const results = new Map<string, Boot>()

function command(name: keyof typeof boots): string {
  const { kernel, end, args } = boots[name]
  const initrd = initramfs(SCRIPT, { end })
  const talk = JSON.stringify([['type a line', 'hello from outside\n']])
  const cmdline = 'console=ttyS0 panic=-1 quiet'
  const run = [
    '--kernel',
    kernel,
    '--initrd',
    initrd,
    '--memory',
    '512M',
    '--cmdline',
    cmdline,
    ...args,
  ]
  const quoted = [talk, ...run, '--timeout', '240'].map((text) => `'${text}'`).join(' ')
  return `echo "<${name}>"; node lab/boot-and-talk.mjs ${quoted}; echo "<status $?>"`
}

// One stay in the lab for all boots: its own start takes longer than a guest's.
beforeAll(() => {
  const script = (Object.keys(boots) as (keyof typeof boots)[]).map(command).join('\n')
  const lab = ['lab/run.mjs', '--timeout', '800', ...FOR_LINUX_GUESTS, '--', 'sh', '-c', script]
  const { stdout } = spawnSync(process.execPath, lab, { cwd: root, encoding: 'utf8' })
  for (const [, name, output, status] of stdout.matchAll(/<(\w+)>\r?\n([\s\S]*?)<status (\d+)>/g)) {
    results.set(name!, { output: output!, status: Number(status) })
  }
}, 900_000)

test.each(Object.keys(boots))('%s reaches user space, talks both ways and ends', (name) => {
  const { output, status } = results.get(name) ?? { output: 'did not run', status: -1 }
  expect(output).toContain('the guest read: hello from outside')
  expect(output).toContain('init: ended with status 0')
  expect(status).toBe(0)
})

test('a second processor is found through ACPI', () => {
  expect(results.get('bzImage')?.output).toContain('processors: 1')
  expect(results.get('pvh')?.output).toContain('processors: 2')
})

test('memory above 4 GiB is used', () => {
  const total = /memory: MemTotal:\s+(\d+) kB/.exec(results.get('linux64')?.output ?? '')
  expect(Number(total?.[1]) / 2 ** 20).toBeGreaterThan(4.5)
})
