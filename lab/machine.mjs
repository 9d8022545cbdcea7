// @ts-check
// What the lab's machines have in common: how one is started, what it gives, and the initramfs of level 1.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { encodeCpio } from './cpio.mjs'
import { readModules } from './kernel-modules.mjs'
import { ensureBusybox, ensureKernel } from './setup.mjs'

/**
 * What a machine is started with, whatever its kind.
 *
 * @typedef {object} MachineOptions
 * @property {string} folder an empty folder for the machine's files
 * @property {string} commandScript what to run, see command-script.mjs
 * @property {string} endMark see end-mark.mjs
 * @property {string} consoleFile takes what the kernel prints
 * @property {string[]} modules kernel modules to load besides those that the lab needs
 * @property {string} append more of the kernel's command line
 * @property {number | undefined} cpus
 * @property {'single' | 'multi' | undefined} threads
 * @property {number | undefined} memoryMib
 * @property {string | undefined} out a folder of the host, to be mounted writable at /lab/out
 */

/**
 * A started machine.
 *
 * @typedef {object} Machine
 * @property {import('node:child_process').ChildProcess} process
 * @property {import('node:stream').Readable} stdout the command's output, with the end mark
 * @property {import('node:stream').Readable} stderr
 * @property {import('node:stream').Readable} [life] a line now and then as long as programs run in it
 * @property {() => Promise<string>} [whereProcessorsAre] for one that gives no sign of life
 * @property {() => void} [collectOut] brings the files of /lab/out to the host, when they are not there yet
 */

/**
 * Speed is what most of these are for: an emulated machine needs no mitigations and no self-tests. And a
 * processor that has locked up (docs/lab.md) ends the machine, after twice the threshold in seconds.
 */
export const LEVEL1_COMMAND_LINE =
  'console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable no_timer_check cryptomgr.notests ' +
  'softlockup_panic=1 watchdog_thresh=20'

/** @param {string} name */
const readLevel1File = (name) => readFileSync(join(import.meta.dirname, 'level1', name))

/**
 * Makes the initramfs that level 1 boots to.
 *
 * @param {MachineOptions} options
 * @param {{ kind: 'svm' | 'vmx', flavour: 'generic' | 'cloud', modules: string[] }} machine
 * @returns {Buffer} uncompressed: the emulator is slower than its disk
 */
export function encodeLevel1Initramfs({ commandScript, endMark, modules }, machine) {
  const names = [...machine.modules, ...modules]
  const loaded = readModules(ensureKernel(machine.flavour).modules, names)
  return encodeCpio([
    { path: 'init', mode: 0o755, data: readLevel1File('init.sh') },
    { path: 'machine.sh', data: readLevel1File(`${machine.kind}.sh`) },
    { path: 'supervisor.sh', data: readLevel1File('supervisor.sh') },
    { path: 'command.sh', data: commandScript },
    { path: 'end-mark', data: `${endMark}\n` },
    { path: 'bin/busybox', mode: 0o755, data: readFileSync(ensureBusybox()) },
    { path: 'modules/order', data: loaded.map((module) => `${module.name}\n`).join('') },
    ...loaded.map((module) => ({ path: `modules/${module.name}.ko`, data: module.data })),
  ])
}
