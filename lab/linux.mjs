// @ts-check
// What a test needs to boot a stock Linux: Debian's cloud kernel in both shapes, and initramfs images
// around a static busybox. Everything is downloaded or made once; inside the lab, which has no network,
// run.mjs has seen to that before.
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { encodeCpio } from './cpio.mjs'
import { readModules } from './kernel-modules.mjs'
import { cacheFolder, ensureBusybox, ensureKernel } from './setup.mjs'

/**
 * What an initramfs does.
 *
 * @typedef {object} InitramfsOptions
 * @property {'poweroff' | 'reboot'} [end] how the guest ends; a machine without ACPI can only reboot
 * (with `reboot=k` by the i8042, with `reboot=t` by a triple fault). Default `poweroff`.
 * @property {string[]} [modules] kernel modules of the cloud flavour to load first, with all they need;
 * virtio and its devices are modules
 * @property {Record<string, Uint8Array>} [files] more files, executable, by their paths without a leading slash
 */

/**
 * Gives Debian's cloud kernel as packaged: a bzImage with an LZ4 payload.
 *
 * @returns {string} its path
 * @throws {Error} when it is not in the cache and cannot be downloaded
 */
export const kernelBzImage = () => ensureKernel('cloud').bzImage

/**
 * Gives the same kernel decompressed: an ELF64 vmlinux with a PVH entry note. Or the generic one, which is larger and
 * knows more of old PCs, such as the MP table.
 *
 * @param {'cloud' | 'generic'} [flavour]
 * @returns {string} its path
 * @throws {Error} when it is not in the cache and cannot be downloaded
 */
export const kernelElf = (flavour = 'cloud') => ensureKernel(flavour).vmlinux

/**
 * Keeps an image under a name made from its content, so that tests may ask for it again and again.
 *
 * @param {Buffer} archive
 * @returns {string}
 */
function keepImage(archive) {
  const folder = join(cacheFolder, 'initramfs')
  const digest = createHash('sha256').update(archive).digest('hex').slice(0, 16)
  const path = join(folder, `${digest}.cpio.gz`)
  if (existsSync(path)) return path
  mkdirSync(folder, { recursive: true })
  const unfinished = `${path}.${process.pid}`
  writeFileSync(unfinished, gzipSync(archive, { level: 1 }))
  renameSync(unfinished, path)
  return path
}

/**
 * @param {string} script
 * @param {{ interactive: boolean } & InitramfsOptions} options
 */
function makeInitramfs(script, { interactive, end = 'poweroff', modules = [], files = {} }) {
  const loaded = readModules(ensureKernel('cloud').modules, modules)
  const settings = `INTERACTIVE=${interactive ? 'yes' : 'no'}\nEND=${end}\n`
  const archive = encodeCpio([
    {
      path: 'init',
      mode: 0o755,
      data: readFileSync(join(import.meta.dirname, 'level2', 'init.sh')),
    },
    { path: 'script', data: script },
    { path: 'settings', data: settings },
    { path: 'bin/busybox', mode: 0o755, data: readFileSync(ensureBusybox()) },
    ...Object.entries(files).map(([path, data]) => ({ path, mode: 0o755, data })),
    { path: 'modules/order', data: loaded.map((module) => `${module.name}\n`).join('') },
    ...loaded.map((module) => ({ path: `modules/${module.name}.ko`, data: module.data })),
  ])
  return keepImage(archive)
}

/**
 * Makes an initramfs (newc, gzip) with busybox that runs a shell script on the console, with proc, sysfs
 * and devtmpfs mounted, prints `init: ended with status N`, and ends the guest.
 *
 * @param {string} script for busybox's sh
 * @param {InitramfsOptions} [options]
 * @returns {string} the image's path; equal arguments give the same file
 */
export const initramfs = (script, options = {}) =>
  makeInitramfs(script, { ...options, interactive: false })

/**
 * Makes an initramfs as {@link initramfs}, but with an interactive busybox shell on the console; when the
 * shell ends, so does the guest.
 *
 * @param {InitramfsOptions} [options]
 * @returns {string} the image's path
 */
export const interactiveInitramfs = (options = {}) =>
  makeInitramfs('', { ...options, interactive: true })
