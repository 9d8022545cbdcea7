// @ts-check
// The part of bench/peers.ts that runs in the lab: boots the same guest by node-kvm and by QEMU in turn,
// each with the same device, and notes how long each operation takes, how much CPU the process used for it,
// and how often the guest left the kernel. Prints a line of JSON for each test of each boot.
//
//   node bench/peer-side.mjs block|net ROUNDS KERNEL INITRD [PROGRAM]
import { execFileSync, spawn } from 'node:child_process'
import { closeSync, ftruncateSync, openSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { countExits } from '../lab/kvm-trace.mjs'

const [device = '', rounds = '1', kernel = '', initrd = '', program = ''] = process.argv.slice(2)
const IMAGE = '/tmp/bench.img'
const SIZE = 128 * 2 ** 20
const TAP = 'bench0'
const CMDLINE = 'console=ttyS0 panic=-1 quiet'
const TICK_NS = 10_000_000

/** What the host has to have, and what each side is told about it. */
const devices = {
  block: {
    prepare() {
      const file = openSync(IMAGE, 'w')
      ftruncateSync(file, SIZE)
      closeSync(file)
    },
    ours: ['--device', `disk,${IMAGE}`],
    qemu: [
      ...['-object', 'iothread,id=io'],
      ...['-drive', `file=${IMAGE},format=raw,if=none,id=disk,cache=writeback,aio=io_uring`],
      ...['-device', 'virtio-blk-pci,drive=disk,iothread=io,disable-legacy=on'],
    ],
  },
  net: {
    prepare() {
      const ip = (/** @type {string} */ args) => execFileSync('ip', args.split(' '))
      ip(`tuntap add dev ${TAP} mode tap`)
      ip(`addr add 10.9.0.1/24 dev ${TAP}`)
      ip(`link set ${TAP} up`)
      spawn(program, ['peer', TAP], { stdio: ['ignore', 'inherit', 'inherit'] }).unref()
    },
    ours: ['--net', `tap=${TAP},mac=52:54:00:00:00:09`],
    qemu: [
      ...['-netdev', `tap,id=net,ifname=${TAP},script=no,downscript=no`],
      '-device',
      'virtio-net-pci,netdev=net,mac=52:54:00:00:00:09,disable-legacy=on,romfile=',
    ],
  },
}
const chosen = devices[/** @type {keyof typeof devices} */ (device)]

const sides = {
  ours: [
    process.execPath,
    ...['lib/cli/main.js', 'run', '--kernel', kernel, '--initrd', initrd, '--cmdline', CMDLINE],
    ...['--memory', '256M', ...chosen.ours],
  ],
  qemu: [
    'qemu-system-x86_64',
    ...['-accel', 'kvm', '-cpu', 'host', '-M', 'q35', '-m', '256'],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
    ...['-kernel', kernel, '-initrd', initrd, '-append', CMDLINE, ...chosen.qemu],
  ],
}

/** CPU time of a process, its guest included. @param {number} pid */
function cpuNs(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) * TICK_NS
}

/** @param {'ours' | 'qemu'} side */
async function boot(side) {
  const [command = '', ...args] = sides[side]
  const exits = countExits()
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let before = { cpu: 0, exits: 0 }
  for await (const line of createInterface(child.stdout)) {
    const [word, test, operations, ns] = line.trim().split(' ')
    const now = { cpu: cpuNs(child.pid ?? 0), exits: exits.count }
    if (word === 'begin') before = now
    else if (word !== 'end' && line.trim() !== '') console.error(`${side}: ${line}`)
    if (word !== 'end') continue
    const count = Number(operations)
    const each = {
      ns: Number(ns) / count,
      cpuNs: (now.cpu - before.cpu) / count,
      exits: (now.exits - before.exits) / count,
    }
    console.log(JSON.stringify({ side, test, operations: count, ...each }))
  }
  exits.close()
}

chosen.prepare()
for (let round = 0; round < Number(rounds); round++) {
  // Whoever is first has the colder caches: they take turns in that, too.
  for (const side of round % 2 ? ['qemu', 'ours'] : ['ours', 'qemu']) {
    await boot(/** @type {'ours' | 'qemu'} */ (side))
  }
}
