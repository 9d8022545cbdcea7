// @ts-check
// The part of bench/block.ts that runs in the lab: boots the same guest by node-kvm and by QEMU in turn,
// each with the same disk, and notes how long a request takes and how much CPU the process used for it.
// Prints a line of JSON for each test of each boot.
//
//   node bench/block-side.mjs ROUNDS KERNEL INITRD
import { spawn } from 'node:child_process'
import { closeSync, ftruncateSync, openSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

const [rounds = '1', kernel = '', initrd = ''] = process.argv.slice(2)
const IMAGE = '/tmp/bench.img'
const SIZE = 128 * 2 ** 20
const CMDLINE = 'console=ttyS0 panic=-1 quiet'
const TICK_NS = 10_000_000

const sides = {
  ours: [
    process.execPath,
    ...['lib/cli/main.js', 'run', '--kernel', kernel, '--initrd', initrd, '--cmdline', CMDLINE],
    ...['--memory', '512M', '--device', `disk,${IMAGE}`],
  ],
  qemu: [
    'qemu-system-x86_64',
    ...[
      '-accel',
      'kvm',
      '-cpu',
      'host',
      '-M',
      'q35',
      '-m',
      '512',
      '-nodefaults',
      '-no-user-config',
    ],
    ...['-display', 'none', '-serial', 'stdio', '-no-reboot', '-kernel', kernel, '-initrd', initrd],
    ...['-append', CMDLINE, '-object', 'iothread,id=io'],
    ...['-drive', `file=${IMAGE},format=raw,if=none,id=disk,cache=writeback,aio=io_uring`],
    ...['-device', 'virtio-blk-pci,drive=disk,iothread=io,disable-legacy=on'],
  ],
}

/** CPU time of a process, its guest included. @param {number} pid */
function cpuNs(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) * TICK_NS
}

/** @param {'ours' | 'qemu'} side */
async function boot(side) {
  const [program = '', ...args] = sides[side]
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let cpu = 0
  for await (const line of createInterface(child.stdout)) {
    const [word, test, requests, ns] = line.trim().split(' ')
    if (word === 'begin') cpu = cpuNs(child.pid ?? 0)
    if (word !== 'end') continue
    const count = Number(requests)
    const used = cpuNs(child.pid ?? 0) - cpu
    console.log(
      JSON.stringify({ side, test, requests: count, ns: Number(ns) / count, cpuNs: used / count }),
    )
  }
}

const file = openSync(IMAGE, 'w')
ftruncateSync(file, SIZE)
closeSync(file)
for (let round = 0; round < Number(rounds); round++) {
  // Whoever is first has the colder caches: they take turns in that, too.
  for (const side of round % 2 ? ['qemu', 'ours'] : ['ours', 'qemu']) {
    await boot(/** @type {'ours' | 'qemu'} */ (side))
  }
}
