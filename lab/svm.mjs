// @ts-check
// The second machine: QEMU's emulator (TCG) with AMD SVM and nested paging, a Debian kernel that loads the
// real kvm_amd, and the host's root file system, read-only.
import { spawn } from 'node:child_process'
import { closeSync, openSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { encodeLevel1Initramfs, LEVEL1_COMMAND_LINE } from './machine.mjs'
import { whereProcessorsAre } from './qemu-monitor.mjs'
import { ensureKernel, ensureProgram } from './setup.mjs'

const MODULES = ['virtio_pci', 'virtio_console', '9pnet_virtio', '9p', 'overlay', 'tun', 'kvm_amd']

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

/** @param {import('./machine.mjs').MachineOptions} options */
function qemuArguments({
  folder,
  consoleFile,
  append,
  cpus = 2,
  threads = 'single',
  memoryMib = 4096,
  out,
}) {
  /** @param {string} stream @param {number} number */
  const port = (stream, number) => [
    ['-chardev', `socket,id=${stream},path=${join(folder, stream)}`],
    ['-device', `virtserialport,chardev=${stream},nr=${number},name=${stream}`],
  ]
  /** @param {string} tag @param {string} path */
  const share = (tag, path) =>
    `local,mount_tag=${tag},path=${path.replaceAll(',', ',,')},security_model=none,multidevs=remap`
  return [
    ['-accel', `tcg,thread=${threads}`],
    ['-cpu', 'max,+svm,-erms,-fsrm'],
    ['-M', 'q35'],
    ['-m', String(memoryMib)],
    ['-smp', String(cpus)],
    ['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ['-kernel', ensureKernel('generic').vmlinux],
    ['-initrd', join(folder, 'initramfs')],
    ['-append', `${LEVEL1_COMMAND_LINE} ${append}`],
    ['-serial', `file:${consoleFile.replaceAll(',', ',,')}`],
    ['-device', 'virtio-serial-pci'],
    ...port('stdout', 1),
    ...port('stderr', 2),
    ...port('life', 3),
    ['-monitor', `unix:${join(folder, 'monitor')},server=on,wait=off`],
    ['-virtfs', `${share('hostroot', '/')},readonly=on`],
    out === undefined ? [] : ['-virtfs', share('labout', out)],
  ].flat(2)
}

/**
 * Starts the SVM machine.
 *
 * @param {import('./machine.mjs').MachineOptions} options
 * @returns {import('./machine.mjs').Machine}
 * @throws {Error} when something that the lab runs on cannot be had
 */
export function startSvmMachine(options) {
  ensureProgram('qemu-system-x86_64', ['qemu-system-x86', 'seabios'])
  // Guests of the tests in there want it, and there is no network to get it.
  ensureKernel('cloud')
  writeFileSync(
    join(options.folder, 'initramfs'),
    encodeLevel1Initramfs(options, { kind: 'svm', flavour: 'generic', modules: MODULES }),
  )
  const ports = {
    stdout: openPort(join(options.folder, 'stdout')),
    stderr: openPort(join(options.folder, 'stderr')),
    life: openPort(join(options.folder, 'life')),
  }
  // The machine must not outlive us, however we end.
  const qemu = ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...qemuArguments(options)]
  const log = openSync(join(options.folder, 'log'), 'a')
  const process = spawn('setpriv', qemu, { stdio: ['ignore', log, log] })
  closeSync(log)
  for (const port of Object.values(ports)) process.once('close', port.close)
  return {
    process,
    stdout: ports.stdout.stream,
    stderr: ports.stderr.stream,
    life: ports.life.stream,
    whereProcessorsAre: () => whereProcessorsAre(join(options.folder, 'monitor')),
  }
}
