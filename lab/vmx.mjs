// @ts-check
// The third machine: Bochs with Intel VMX and EPT, and a Debian kernel that loads the real kvm_intel. Bochs
// has no virtio and boots no kernel by itself, so everything comes in by a GRUB CD and disk images.
import { execFileSync, spawn } from 'node:child_process'
import { closeSync, constants, mkdirSync, openSync, writeFileSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { makeDisk, makeRootDisk, readDisk } from './disk.mjs'
import { encodeLevel1Initramfs, LEVEL1_COMMAND_LINE } from './machine.mjs'
import { ensureKernel, ensureProgram } from './setup.mjs'

/** What Bochs counts as a second of its machine's time; the kernel is told the TSC's rate to match. */
const INSTRUCTIONS_PER_SECOND = 50_000_000

/** Bochs does not start without it, and the package of Bochs does not bring it. */
const VGA_BIOS = '/usr/share/vgabios/vgabios.bin'

const MODULES = ['ata_piix', 'sd_mod', 'kvm_intel', 'tun']

const COMMAND_LINE = `${LEVEL1_COMMAND_LINE} tsc_early_khz=${INSTRUCTIONS_PER_SECOND / 1000}`

/**
 * Makes a CD from which GRUB starts the kernel.
 *
 * @param {import('./machine.mjs').MachineOptions} options
 * @returns {string} its path
 */
function makeBootCd(options) {
  const content = join(options.folder, 'cd')
  mkdirSync(join(content, 'boot', 'grub'), { recursive: true })
  const initramfs = encodeLevel1Initramfs(options, {
    kind: 'vmx',
    flavour: 'cloud',
    modules: MODULES,
  })
  writeFileSync(join(content, 'initramfs'), initramfs)
  const menu = `linux /vmlinuz ${COMMAND_LINE} ${options.append}\ninitrd /initramfs\nboot\n`
  writeFileSync(join(content, 'boot', 'grub', 'grub.cfg'), menu)
  const path = join(options.folder, 'cd.iso')
  const kernel = `vmlinuz=${ensureKernel('cloud').bzImage}`
  const args = ['-o', path, content, '--', '-as', 'mkisofs', '-graft-points', kernel]
  execFileSync('grub-mkrescue', args, { stdio: 'pipe' })
  return path
}

/**
 * Makes a named pipe that Bochs can take for a file.
 *
 * @param {string} path
 * @returns {Socket} its reading end
 */
function openPipe(path) {
  execFileSync('mkfifo', [path])
  // Open for both: it neither waits for a writer nor ends when there is none yet.
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK)
  return new Socket({ fd, readable: true, writable: false })
}

/**
 * @param {import('./machine.mjs').MachineOptions} options
 * @param {{ cd: string, disk: string, outDisk: string | undefined, stdout: string, stderr: string }} files
 */
function bochsConfiguration({ consoleFile, cpus = 1, memoryMib = 1024 }, files) {
  if (cpus !== 1) throw new Error('the VMX machine has one processor')
  const { cd, disk, outDisk, stdout, stderr } = files
  const slave = outDisk === undefined ? [] : [`ata0-slave: type=disk, path="${outDisk}", mode=flat`]
  return [
    'display_library: rfb, options="timeout=0"',
    'romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot',
    `vgaromimage: file=${VGA_BIOS}`,
    // One that resets on a triple fault would boot for ever; unknown MSRs are for KVM to complain about.
    `cpu: model=broadwell_ult, count=1, ips=${INSTRUCTIONS_PER_SECOND}, reset_on_triple_fault=0, ignore_bad_msrs=1`,
    // What does not fit into the memory that Bochs takes it keeps in a file.
    `memory: guest=${memoryMib}, host=${Math.min(memoryMib, 2048)}`,
    'clock: sync=none',
    'boot: cdrom',
    'ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14',
    'ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15',
    `ata0-master: type=disk, path="${disk}", mode=flat`,
    ...slave,
    `ata1-master: type=cdrom, path="${cd}", status=inserted`,
    `com1: enabled=1, mode=file, dev="${consoleFile}"`,
    `com2: enabled=1, mode=file, dev="${stdout}"`,
    `com3: enabled=1, mode=file, dev="${stderr}"`,
    // Without a sound card, Debian's Bochs dies looking for one.
    'sound: driver=dummy',
    'speaker: enabled=0',
    // Errors are a line per VM exit.
    'panic: action=report',
    'error: action=ignore',
    'info: action=ignore',
    'debug: action=ignore',
    '',
  ].join('\n')
}

/** @param {string} bochs the configuration file @param {string} folder */
function startBochs(bochs, folder) {
  // Debian's Bochs has its debugger built in, and stops in it at reset.
  const debuggerCommands = join(folder, 'debugger')
  writeFileSync(debuggerCommands, 'c\n')
  const log = openSync(join(folder, 'log'), 'a')
  // The machine must not outlive us, however we end.
  const args = ['--pdeathsig', 'KILL', 'bochs', '-q', '-f', bochs, '-rc', debuggerCommands]
  const process = spawn('setpriv', args, { cwd: folder, stdio: ['ignore', log, log] })
  closeSync(log)
  return process
}

/**
 * Starts the VMX machine.
 *
 * @param {import('./machine.mjs').MachineOptions} options
 * @returns {import('./machine.mjs').Machine}
 * @throws {Error} when something that the lab runs on cannot be had, or the options ask for more than it has
 */
export function startVmxMachine(options) {
  const { folder, out } = options
  ensureProgram('bochs', ['bochs', 'bochsbios'])
  ensureProgram(VGA_BIOS, ['vgabios'])
  ensureProgram('grub-mkrescue', ['grub-common', 'grub-pc-bin', 'xorriso', 'mtools'])
  const paths = { stdout: join(folder, 'stdout'), stderr: join(folder, 'stderr') }
  const outDisk = out === undefined ? undefined : makeDisk(join(folder, 'out.img'), out)
  const files = { ...paths, cd: makeBootCd(options), disk: makeRootDisk(folder), outDisk }
  const configuration = join(folder, 'bochsrc')
  writeFileSync(configuration, bochsConfiguration(options, files))
  const streams = { stdout: openPipe(paths.stdout), stderr: openPipe(paths.stderr) }
  const process = startBochs(configuration, folder)
  for (const stream of Object.values(streams)) process.once('close', () => stream.destroy())
  const collectOut = () => {
    if (outDisk !== undefined && out !== undefined) readDisk(outDisk, out)
  }
  return { process, ...streams, collectOut }
}
