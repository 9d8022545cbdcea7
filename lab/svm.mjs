// @ts-check
// The second machine: QEMU's emulator (TCG) with AMD SVM and nested paging, a Debian kernel that loads the
// real kvm_amd, and the host's root file system, read-only.
import { spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { encodeCpio } from './cpio.mjs'
import { readModules } from './kernel-modules.mjs'
import { ensureBusybox, ensureKernel, ensureProgram } from './setup.mjs'

const MODULES = ['virtio_pci', 'virtio_console', '9pnet_virtio', '9p', 'overlay', 'kvm_amd', 'tun']

/** Speed is what these are for: an emulated machine needs no mitigations and no self-tests. */
const KERNEL_COMMAND_LINE =
  'console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable no_timer_check cryptomgr.notests'

/**
 * What a machine is started with, whatever its kind.
 *
 * @typedef {object} MachineOptions
 * @property {string} folder an empty folder for the machine's files
 * @property {string} commandScript what to run, see command-script.mjs
 * @property {string} endMark see end-mark.mjs
 * @property {string} consoleFile takes what the kernel prints
 * @property {string[]} modules kernel modules to load besides those that the lab needs
 * @property {number} cpus
 * @property {number} memoryMib
 * @property {string | undefined} out a folder of the host, to be mounted writable at /lab/out
 */

/**
 * A started machine.
 *
 * @typedef {object} Machine
 * @property {import('node:child_process').ChildProcess} process
 * @property {import('node:stream').Readable} stdout the command's output, with the end mark
 * @property {import('node:stream').Readable} stderr
 */

/** @param {string} name */
const readLevel1File = (name) => readFileSync(join(import.meta.dirname, 'level1', name))

/** @param {MachineOptions} options */
function encodeInitramfs({ commandScript, endMark, modules }) {
  const loaded = readModules(ensureKernel('generic').modules, [...MODULES, ...modules])
  const order = loaded.map((module) => `${module.name}\n`).join('')
  return encodeCpio([
    { path: 'init', mode: 0o755, data: readLevel1File('init.sh') },
    { path: 'supervisor.sh', data: readLevel1File('supervisor.sh') },
    { path: 'command.sh', data: commandScript },
    { path: 'end-mark', data: `${endMark}\n` },
    { path: 'bin/busybox', mode: 0o755, data: readFileSync(ensureBusybox()) },
    { path: 'modules/order', data: order },
    ...loaded.map((module) => ({ path: `modules/${module.name}.ko`, data: module.data })),
  ])
}

/**
 * Listens where QEMU will connect one of the machine's ports.
 *
 * @param {string} path
 */
function openPort(path) {
  const stream = new PassThrough()
  const server = createServer((socket) => {
    server.close()
    socket.on('error', () => stream.end())
    socket.pipe(stream)
  })
  server.listen(path)
  return { stream, close: () => server.close() }
}

/** @param {MachineOptions} options */
function qemuArguments({ folder, consoleFile, cpus, memoryMib, out }) {
  /** @param {string} stream @param {number} number */
  const port = (stream, number) => [
    ['-chardev', `socket,id=${stream},path=${join(folder, stream)}`],
    ['-device', `virtserialport,chardev=${stream},nr=${number},name=${stream}`],
  ]
  /** @param {string} tag @param {string} path */
  const share = (tag, path) =>
    `local,mount_tag=${tag},path=${path.replaceAll(',', ',,')},security_model=none,multidevs=remap`
  return [
    ['-accel', 'tcg,thread=multi'],
    ['-cpu', 'max,+svm'],
    ['-M', 'q35'],
    ['-m', String(memoryMib)],
    ['-smp', String(cpus)],
    ['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ['-kernel', ensureKernel('generic').vmlinux],
    ['-initrd', join(folder, 'initramfs')],
    ['-append', KERNEL_COMMAND_LINE],
    ['-serial', `file:${consoleFile.replaceAll(',', ',,')}`],
    ['-device', 'virtio-serial-pci'],
    ...port('stdout', 1),
    ...port('stderr', 2),
    ['-virtfs', `${share('hostroot', '/')},readonly=on`],
    out === undefined ? [] : ['-virtfs', share('labout', out)],
  ].flat(2)
}

/**
 * Starts the SVM machine.
 *
 * @param {MachineOptions} options
 * @returns {Machine}
 * @throws {Error} when something that the lab runs on cannot be had
 */
export function startSvmMachine(options) {
  ensureProgram('qemu-system-x86_64', ['qemu-system-x86', 'seabios'])
  // Guests of the tests in there want it, and there is no network to get it.
  ensureKernel('cloud')
  writeFileSync(join(options.folder, 'initramfs'), encodeInitramfs(options))
  const ports = {
    stdout: openPort(join(options.folder, 'stdout')),
    stderr: openPort(join(options.folder, 'stderr')),
  }
  // The machine must not outlive us, however we end.
  const qemu = ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...qemuArguments(options)]
  const log = openSync(join(options.folder, 'log'), 'a')
  const process = spawn('setpriv', qemu, { stdio: ['ignore', log, log] })
  closeSync(log)
  for (const port of Object.values(ports)) process.once('close', port.close)
  return { process, stdout: ports.stdout.stream, stderr: ports.stderr.stream }
}
