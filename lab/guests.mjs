// @ts-check
// Linux guests of `Machine` in the lab, for tests on the host: each with a script that runs in the guest
// and a module that makes the machine and talks to the guest from outside. All of them in one stay.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { initramfs, kernelElf } from './linux.mjs'
import { EXIT_LAB_FAILED } from './session.mjs'

/**
 * What a host module exports; all of it may be missing. It runs in the lab, so it imports from `lib/`.
 *
 * @typedef {object} GuestHost
 * @property {() => object | Promise<object>} [machineOptions] more options for `Machine.create`, such as
 * `devices`
 * @property {(machine: import('../lib/index.js').Machine, say: (text: string) => void) => unknown}
 * [whileRunning] what happens outside while the guest runs; it ends the run when it fails
 * @property {(say: (text: string) => void) => unknown} [afterwards] after the machine is closed
 */

/**
 * A guest and its outside.
 *
 * @typedef {object} LabGuest
 * @property {string} host path of a {@link GuestHost} module, from the project's folder
 * @property {string} script for busybox's sh, in the guest
 * @property {string[]} [modules] of the cloud kernel, such as `virtio_pci` and `virtio_rng`
 * @property {Record<string, Uint8Array>} [files] more of its initramfs, see linux.mjs
 * @property {number} [cpus] default 1
 * @property {string} [memory] default 512M
 * @property {string} [cmdline] more for the kernel
 * @property {number} [timeout] seconds; default 240
 */

/**
 * What came of one.
 *
 * @typedef {object} GuestResult
 * @property {string} output what the guest printed and, in lines that begin with `host: `, what the host
 * said, without carriage returns
 * @property {number} status 0 when both sides were content; the script's own is in `init: ended with status`
 */

/**
 * Options for lab/run.mjs: Linux guests belong on one emulated processor. Kernels change their own code, and with
 * two QEMU's emulator may miss it for good, in the guest as well as under it (docs/lab.md).
 */
export const FOR_LINUX_GUESTS = ['--cpus', '1']

const root = join(import.meta.dirname, '..')
const quoted = (/** @type {string} */ text) => `'${text.replaceAll("'", "'\\''")}'`

/**
 * Boots guests one after the other in one stay in the lab. When the emulated machine dies (docs/lab.md), those
 * that had not come to their end boot once more, in a new one; what a guest or its host found stands.
 *
 * @template {string} Name
 * @param {Record<Name, LabGuest>} guests
 * @param {{ timeout?: number, labOptions?: string[] }} [options] `timeout` in seconds for all of them,
 * default 800; more options for lab/run.mjs, such as `--modules`
 * @returns {Record<Name, GuestResult>} of one that did not come to its end, the output is what there is
 */
export function runLabGuests(guests, options) {
  const { machineStatus, results } = runInOneStay(guests, options)
  const names = /** @type {Name[]} */ (Object.keys(guests))
  const left = names.filter((name) => results[name].status < 0)
  if (machineStatus !== EXIT_LAB_FAILED || left.length === 0) return results
  console.log(`the emulated machine died; again: ${left.join(' ')}\n${results[left[0]].output}`)
  const again = /** @type {Record<Name, LabGuest>} */ (
    Object.fromEntries(left.map((name) => [name, guests[name]]))
  )
  return { ...results, ...runInOneStay(again, options).results }
}

/**
 * @template {string} Name
 * @param {Record<Name, LabGuest>} guests
 * @param {{ timeout?: number, labOptions?: string[] }} [options]
 * @returns {{ machineStatus: number | null, results: Record<Name, GuestResult> }}
 */
function runInOneStay(guests, { timeout = 800, labOptions = [] } = {}) {
  const names = /** @type {Name[]} */ (Object.keys(guests))
  const commands = names.map((name) => {
    const { script, modules = [], files = {}, cmdline = '', ...rest } = guests[name]
    const spec = {
      memory: '512M',
      timeout: 240,
      ...rest,
      kernel: kernelElf(),
      initrd: initramfs(script, { modules, files }),
      cmdline: `console=ttyS0 panic=-1 quiet ${cmdline}`,
    }
    const run = `node lab/run-guest.mjs ${quoted(JSON.stringify(spec))} 2>&1`
    return `echo "<${name}>"; ${run}; status=$?; echo; echo "<status $status>"`
  })
  const lab = [
    join(root, 'lab', 'run.mjs'),
    '--timeout',
    `${timeout}`,
    ...FOR_LINUX_GUESTS,
    ...labOptions,
  ]
  const {
    stdout,
    stderr,
    status: machineStatus,
  } = spawnSync(process.execPath, [...lab, '--', 'sh', '-c', commands.join('\n')], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 64 * 2 ** 20,
  })
  const text = stdout.replaceAll('\r', '')
  const results = names.map((name) => {
    const [, after = ''] = text.split(`<${name}>\n`)
    const [output = '', end = ''] = after.split('\n<status ')
    const status = Number(/^\d+/.exec(end)?.[0] ?? -1)
    return [name, { output: status < 0 ? `${output}\n${stderr}` : output, status }]
  })
  return { machineStatus, results: Object.fromEntries(results) }
}
