// @ts-check
// The part of bench/peers.ts that runs in the lab: boots the same guest by node-kvm and by QEMU, each with
// the same device, and has the one and then the other do each test, while the other is idle. Notes how long
// each operation takes, how much CPU the process used for it, and how often its guest left the kernel. Prints
// a line of JSON for each test.
//
//   node bench/peer-side.mjs block|net BOOTS ROUNDS MILLISECONDS TESTS KERNEL INITRD [PROGRAM]
import { execFileSync, spawn } from 'node:child_process'
import { closeSync, ftruncateSync, openSync, readFileSync } from 'node:fs'
import { countExits } from '../lab/kvm-trace.mjs'

const [device = '', boots = '1', rounds = '1', milliseconds = '', ...rest] = process.argv.slice(2)
const [tests = '', kernel = '', initrd = '', program = ''] = rest
const SIZE = 128 * 2 ** 20
const CMDLINE = 'console=ttyS0 panic=-1 quiet'
/** Between two tests, for what one leaves behind: threads that end, connections that close. */
const PAUSE_MS = 100
const TICK_NS = 10_000_000

/** @typedef {'ours' | 'qemu'} Side */
/** @type {readonly Side[]} */
const SIDES = ['ours', 'qemu']

/** @param {Side} side */
const imageOf = (side) => `/tmp/${side}.img`
/** @param {Side} side */
const subnetOf = (side) => `10.9.${SIDES.indexOf(side)}`
/** @param {Side} side */
const macOf = (side) => `52:54:00:00:00:0${SIDES.indexOf(side)}`

/** What the host has to have, what each side is told about it, and what the guest's program is told. */
const devices = {
  block: {
    /** @param {Side} side */
    prepare(side) {
      const file = openSync(imageOf(side), 'w')
      ftruncateSync(file, SIZE)
      closeSync(file)
    },
    ours: ['--device', `disk,${imageOf('ours')}`],
    qemu: [
      ...['-object', 'iothread,id=io'],
      '-drive',
      `file=${imageOf('qemu')},format=raw,if=none,id=disk,cache=writeback,aio=io_uring`,
      ...['-device', 'virtio-blk-pci,drive=disk,iothread=io,disable-legacy=on'],
    ],
    greeting: () => [],
    load: () => '/dev/vda',
  },
  net: {
    /** @param {Side} side */
    prepare(side) {
      const ip = (/** @type {string} */ args) => execFileSync('ip', args.split(' '))
      ip(`tuntap add dev ${side} mode tap`)
      ip(`addr add ${subnetOf(side)}.1/24 dev ${side}`)
      ip(`link set ${side} up`)
      const args = ['peer', side, `${subnetOf(side)}.1`]
      spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit'] }).unref()
    },
    ours: ['--net', `tap=ours,mac=${macOf('ours')}`],
    qemu: [
      ...['-netdev', 'tap,id=net,ifname=qemu,script=no,downscript=no'],
      '-device',
      `virtio-net-pci,netdev=net,mac=${macOf('qemu')},disable-legacy=on,romfile=`,
    ],
    greeting: (/** @type {Side} */ side) => [
      `ip addr add ${subnetOf(side)}.2/24 dev eth0`,
      'ip link set eth0 up',
    ],
    load: (/** @type {Side} */ side) => `guest ${subnetOf(side)}.1`,
  },
}
const chosen = devices[/** @type {keyof typeof devices} */ (device)]

const commands = {
  ours: [
    process.execPath,
    ...['lib/cli/main.cjs', 'run', '--kernel', kernel, '--initrd', initrd, '--cmdline', CMDLINE],
    // Huge pages, which QEMU asks for as well.
    ...['--memory', '256M', '--thp', ...chosen.ours],
  ],
  qemu: [
    'qemu-system-x86_64',
    ...['-accel', 'kvm', '-cpu', 'host', '-M', 'q35', '-m', '256'],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
    ...['-kernel', kernel, '-initrd', initrd, '-append', CMDLINE, ...chosen.qemu],
  ],
}

/** CPU time of a process, its guest and its former threads included. @param {number} pid */
function cpuNs(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) * TICK_NS
}

/** A guest that does what it is told, line by line. */
class Guest {
  #text = ''
  #wake = () => {}

  /** @param {Side} side */
  constructor(side) {
    this.side = side
    const [command = '', ...args] = commands[side]
    this.process = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.process.stdout.setEncoding('latin1').on('data', (text) => {
      this.#text += text
      this.#wake()
    })
  }

  /** Waits for more output, and gives what there is. */
  async #more() {
    const before = this.#text
    while (this.#text === before) {
      if (this.process.exitCode !== null) throw new Error(`${this.side} ended`)
      await new Promise((resolve) => {
        this.#wake = () => resolve(undefined)
        setTimeout(resolve, 1000)
      })
    }
  }

  /** The rest of the next line that begins so; what comes before it is over. @param {string} word */
  async awaitLine(word) {
    const line = new RegExp(`^${word}\\b *(.*?)\\r?\\n`, 'm')
    for (;;) {
      const found = line.exec(this.#text)
      if (found !== null) {
        this.#text = this.#text.slice(found.index + found[0].length)
        return (found[1] ?? '').split(' ')
      }
      await this.#more()
    }
  }

  /** @param {string} line */
  tell(line) {
    this.process.stdin.write(`${line}\n`)
  }

  async ready() {
    await this.awaitLine('ready')
    for (const line of chosen.greeting(this.side)) this.tell(line)
  }

  /** What the guest prints costs exits, and more on one side than on the other: it is silent meanwhile. */
  async measure(/** @type {string} */ test) {
    const pid = this.process.pid ?? 0
    this.tell(`/bin/load ${chosen.load(this.side)} ${milliseconds} ${test}`)
    await this.awaitLine('begin')
    const before = { cpu: cpuNs(pid), exits: exits.count }
    await this.#more()
    const now = { cpu: cpuNs(pid), exits: exits.count }
    const [, operations, ns] = await this.awaitLine('end')
    const count = Number(operations)
    return {
      ...{ side: this.side, test, operations: count, ns: Number(ns) / count },
      cpuNs: (now.cpu - before.cpu) / count,
      exits: (now.exits - before.exits) / count,
    }
  }

  async end() {
    this.tell('exit')
    await this.awaitLine('init')
    this.process.kill()
  }
}

for (const side of SIDES) chosen.prepare(side)
// ORDER: once, before guests run: it changes the kernel's code, which the lab's emulator does not always survive.
const exits = countExits()
for (let boot = 0; boot < Number(boots); boot++) {
  const guests = SIDES.map((side) => new Guest(side))
  for (const guest of guests) await guest.ready()
  // The first round warms up: an emulator translates code, and images get their pages.
  for (let round = 0; round <= Number(rounds); round++) {
    for (const test of tests.split(',')) {
      for (const guest of round % 2 ? guests : [...guests].reverse()) {
        const sample = await guest.measure(test)
        if (round > 0) console.log(JSON.stringify({ boot, ...sample }))
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
      }
    }
  }
  for (const guest of guests) await guest.end()
}
exits.close()
