// @ts-check
// Brings what the lab runs on to a new machine: QEMU from Debian's packages, and a cache with Debian's
// kernels and busybox, which are only unpacked, never installed. Everything is made once.
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { delimiter, join, resolve } from 'node:path'
import { flattenModules } from './kernel-modules.mjs'
import { extractVmlinux } from './vmlinux.mjs'

/** Where downloads and what is made of them stay; `NODE_KVM_LAB_CACHE` moves it. */
export const cacheFolder = resolve(
  process.env.NODE_KVM_LAB_CACHE ?? join(import.meta.dirname, '..', '.cache', 'lab'),
)

/** Kernel flavours by what the lab uses them for; the values are Debian's metapackages. */
const KERNEL_PACKAGES = {
  /** Level 1: has as modules what the cloud flavour lacks (kvm-amd, 9p, vhost-net, vfio, tun). */
  generic: 'linux-image-amd64',
  /** Level 2, and level 1 in Bochs: small, LZ4, with a PVH entry and a serial console. */
  cloud: 'linux-image-cloud-amd64',
}

/** Most of the generic flavour's size, and nothing an emulated machine has. */
const UNUSED_MODULES = [
  'drivers/gpu',
  'drivers/hid',
  'drivers/iio',
  'drivers/infiniband',
  'drivers/media',
  'drivers/net/ethernet',
  'drivers/net/wireless',
  'drivers/staging',
  'drivers/usb',
  'sound',
]

/**
 * Files of one kernel flavour.
 *
 * @typedef {{ bzImage: string, vmlinux: string, modules: string }} Kernel
 */

/**
 * Runs a set-up command; its output goes to our standard error, except what is returned.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {{ cwd?: string }} [options]
 */
function run(command, args, options = {}) {
  const { status, stdout, error } = spawnSync(command, args, {
    ...options,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' },
  })
  if (status === 0) return stdout
  throw new Error(`lab set-up: "${command} ${args.join(' ')}" failed`, { cause: error ?? stdout })
}

/** @param {string} message */
const say = (message) => process.stderr.write(`lab set-up: ${message}\n`)

const isRoot = () => process.getuid?.() === 0

/**
 * @param {string} program a name to look for in PATH, or an absolute path
 * @returns {boolean}
 */
const isInstalled = (program) =>
  (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(resolve(folder, program)))

/** @param {string[]} args */
function aptGet(args) {
  return run('apt-get', ['-q', '-o', 'DPkg::Lock::Timeout=300', ...args])
}

/**
 * Does something that needs apt's package lists; a fresh container has none, and old ones name files that
 * the mirrors no longer have.
 *
 * @template T
 * @param {() => T} action
 * @returns {T}
 */
function withPackageLists(action) {
  try {
    return action()
  } catch (error) {
    if (!isRoot()) throw error
    say('refreshing the package lists')
    aptGet(['update'])
    return action()
  }
}

/**
 * Makes sure that programs are there, installing their Debian packages when we may.
 *
 * @param {string} program stands for all that the packages bring; a name, or a file's absolute path
 * @param {string[]} packages
 */
export function ensureProgram(program, packages) {
  if (isInstalled(program)) return
  if (!isRoot() || !isInstalled('apt-get'))
    throw new Error(
      `the lab needs ${program}: as root, run "apt-get install ${packages.join(' ')}" (Debian)`,
    )
  say(`installing ${packages.join(', ')}`)
  withPackageLists(() => aptGet(['install', '-y', '--no-install-recommends', ...packages]))
}

/**
 * Makes one entry of the cache. Two runs may do so at once: each works in its own folder, and the first to
 * finish wins.
 *
 * @param {string} name
 * @param {(folder: string) => void} make fills an empty folder
 * @returns {string} the entry's folder
 */
function ensureCached(name, make) {
  const entry = join(cacheFolder, name)
  if (existsSync(entry)) return entry
  say(`making ${name} (once)`)
  mkdirSync(cacheFolder, { recursive: true })
  const folder = mkdtempSync(`${entry}.`)
  try {
    make(folder)
    chmodSync(folder, 0o755)
    renameSync(folder, entry)
  } catch (error) {
    if (!existsSync(entry)) throw error
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  return entry
}

/**
 * Downloads a Debian package and unpacks it below `folder`.
 *
 * @param {string} name
 * @param {string} folder
 */
function unpackPackage(name, folder) {
  // apt warns when its own user cannot write to the folder; as that user it could do no more.
  run('apt-get', ['-q', '-o', 'APT::Sandbox::User=root', 'download', name], { cwd: folder })
  const archive = readdirSync(folder).find((file) => file.endsWith('.deb'))
  run('dpkg', ['-x', /** @type {string} */ (archive), '.'], { cwd: folder })
}

/** @param {string} metapackage */
function kernelPackageOf(metapackage) {
  const lines = run('apt-cache', ['depends', '--important', metapackage]).split('\n')
  const found = lines.map((line) => /Depends: (linux-image-\S+)/.exec(line)?.[1]).find(Boolean)
  if (found === undefined) throw new Error(`lab set-up: ${metapackage} is no Debian kernel package`)
  return found
}

/**
 * @param {string} metapackage
 * @param {string} folder
 */
function makeKernel(metapackage, folder) {
  const unpacked = join(folder, 'unpacked')
  withPackageLists(() => {
    rmSync(unpacked, { recursive: true, force: true })
    mkdirSync(unpacked)
    unpackPackage(kernelPackageOf(metapackage), unpacked)
  })
  const [release] = readdirSync(join(unpacked, 'lib', 'modules'))
  const modules = join(unpacked, 'lib', 'modules', /** @type {string} */ (release), 'kernel')
  for (const unused of UNUSED_MODULES)
    rmSync(join(modules, unused), { recursive: true, force: true })
  mkdirSync(join(folder, 'modules'))
  flattenModules(modules, join(folder, 'modules'))
  const bzImage = join(folder, 'vmlinuz')
  renameSync(join(unpacked, 'boot', `vmlinuz-${release}`), bzImage)
  writeFileSync(join(folder, 'vmlinux'), extractVmlinux(readFileSync(bzImage)))
  rmSync(unpacked, { recursive: true })
}

/**
 * Gives a Debian kernel, downloaded the first time.
 *
 * @param {keyof typeof KERNEL_PACKAGES} flavour
 * @returns {Kernel}
 */
export function ensureKernel(flavour) {
  const folder = ensureCached(`kernel-${flavour}`, (empty) =>
    makeKernel(KERNEL_PACKAGES[flavour], empty),
  )
  return {
    bzImage: join(folder, 'vmlinuz'),
    vmlinux: join(folder, 'vmlinux'),
    modules: join(folder, 'modules'),
  }
}

/**
 * Gives a statically linked busybox, downloaded the first time.
 *
 * @returns {string} its path
 */
export function ensureBusybox() {
  const folder = ensureCached('busybox', (empty) => {
    const unpacked = mkdtempSync(join(empty, 'unpacked.'))
    withPackageLists(() => unpackPackage('busybox-static', unpacked))
    const program = ['bin/busybox', 'usr/bin/busybox'].find((path) =>
      existsSync(join(unpacked, path)),
    )
    copyFileSync(join(unpacked, /** @type {string} */ (program)), join(empty, 'busybox'))
    rmSync(unpacked, { recursive: true })
  })
  return join(folder, 'busybox')
}
