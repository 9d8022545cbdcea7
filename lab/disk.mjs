// @ts-check
// Disk images for a machine that cannot share the host's files. e2fsprogs fill and read them without a
// mount, so no run needs root.
import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  symlinkSync,
} from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { cacheFolder } from './setup.mjs'

const project = join(import.meta.dirname, '..')

/** Room for what a run writes. */
const FREE_KIB = 256 * 1024

/** Of the project, what no run needs, as paths from its root. */
const LEFT_OUT = new Set(['.git', '.cache', 'coverage', 'node_modules/@biomejs'])

/** Of the cache, what guests of tests need. */
const GUEST_FILES = ['busybox', 'initramfs', 'kernel-cloud']

/** Programs besides node and busybox. */
const PROGRAMS = ['/bin/sh', '/usr/bin/env']

/**
 * Makes an ext4 image with the content of a folder.
 *
 * @param {string} path
 * @param {string} content
 * @returns {string} the image's path
 */
export function makeDisk(path, content) {
  const usedKib = Number.parseInt(execFileSync('du', ['-sk', content], { encoding: 'utf8' }), 10)
  // A quarter more for inodes and block maps; no journal, as no image outlives its machine.
  const sizeKib = Math.ceil(usedKib * 1.25) + FREE_KIB
  const args = ['-q', '-t', 'ext4', '-O', '^has_journal', '-d', content, path, `${sizeKib}k`]
  execFileSync('/sbin/mke2fs', args)
  return path
}

/**
 * Copies the content of an ext4 image into a folder.
 *
 * @param {string} path
 * @param {string} folder
 */
export function readDisk(path, folder) {
  execFileSync('/sbin/debugfs', ['-R', `rdump / "${folder}"`, path], { stdio: 'pipe' })
  rmSync(join(folder, 'lost+found'), { recursive: true, force: true })
}

/** @param {string} program */
function librariesOf(program) {
  const lines = execFileSync('ldd', [program], { encoding: 'utf8' }).split('\n')
  return lines.flatMap((line) => /(?:=> |^\s*)(\/\S+)/.exec(line)?.[1] ?? [])
}

/** Native modules bring needs of their own. */
function nativeModules() {
  const paths = ['build', 'node_modules', 'prebuilds']
    .filter((folder) => existsSync(join(project, folder)))
    .flatMap((folder) =>
      readdirSync(join(project, folder), { recursive: true, encoding: 'utf8' }).map((path) =>
        join(project, folder, path),
      ),
    )
  return paths.filter((path) => path.endsWith('.node'))
}

/**
 * Makes the folders of a Linux with merged /usr, as Debian has it.
 *
 * @param {string} root
 */
function makeSkeleton(root) {
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    mkdirSync(join(root, 'usr', name), { recursive: true })
    symlinkSync(`usr/${name}`, join(root, name))
  }
  for (const name of ['dev', 'etc', 'lab', 'proc', 'root', 'run', 'sys', 'tmp', 'var'])
    mkdirSync(join(root, name))
}

/** @param {string} file @param {string} root */
function copyToSamePath(file, root) {
  mkdirSync(dirname(join(root, file)), { recursive: true })
  copyFileSync(file, join(root, file))
}

/**
 * Makes the disk that the machine has for its root: node and the project at the paths they have here.
 *
 * @param {string} folder where to work
 * @returns {string} the image's path
 */
export function makeRootDisk(folder) {
  const root = join(folder, 'root')
  mkdirSync(root)
  makeSkeleton(root)
  const programs = [process.execPath, ...PROGRAMS]
  const libraries = [...programs, ...nativeModules()].flatMap(librariesOf)
  const files = new Set([...programs, ...libraries, '/etc/passwd', '/etc/group'])
  for (const file of files) copyToSamePath(file, root)
  cpSync(project, join(root, project), {
    recursive: true,
    verbatimSymlinks: true,
    filter: (source) => !LEFT_OUT.has(relative(project, source)),
  })
  for (const path of GUEST_FILES.map((name) => join(cacheFolder, name)))
    if (existsSync(path)) cpSync(path, join(root, path), { recursive: true })
  const image = makeDisk(join(folder, 'root.img'), root)
  rmSync(root, { recursive: true })
  return image
}
