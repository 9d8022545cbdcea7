// @ts-check
// Finds kernel modules with all they depend on. A package unpacked without depmod has no modules.dep, so
// the dependencies are read from the modules themselves.
import { existsSync, readdirSync, readFileSync, renameSync } from 'node:fs'
import { basename, join } from 'node:path'

const SIGNATURE_MAGIC = Buffer.from('~Module signature appended~\n')
const SIGNATURE_TRAILER_SIZE = 12

/**
 * A module in the order of loading; `data` is the ELF object without its signature.
 *
 * @typedef {{ name: string, data: Buffer }} KernelModule
 */

/**
 * Module names compare with `-` and `_` equal, as in modprobe.
 *
 * @param {string} name
 */
const canonicalName = (name) => name.replaceAll('-', '_')

/**
 * Puts all modules of a kernel package into one folder under their canonical names, as {@link readModules}
 * wants them: searching a tree of thousands of files takes seconds inside the lab.
 *
 * @param {string} tree where the package has them
 * @param {string} folder
 */
export function flattenModules(tree, folder) {
  const paths = readdirSync(tree, { recursive: true, encoding: 'utf8' })
  for (const path of paths.filter((path) => path.endsWith('.ko')))
    renameSync(join(tree, path), join(folder, `${canonicalName(basename(path, '.ko'))}.ko`))
}

/** @param {Buffer} object */
function dependenciesOf(object) {
  const start = object.indexOf('\0depends=')
  if (start < 0) return []
  const text = object.toString('latin1', start + 9, object.indexOf(0, start + 9))
  return text === '' ? [] : text.split(',')
}

/**
 * Checking a signature costs the emulated machines more than the rest of the load; a module without one
 * is accepted by Debian's kernels.
 *
 * @param {Buffer} object
 */
function withoutSignature(object) {
  if (!object.subarray(-SIGNATURE_MAGIC.length).equals(SIGNATURE_MAGIC)) return object
  const trailer = object.length - SIGNATURE_MAGIC.length - SIGNATURE_TRAILER_SIZE
  const signatureLength = object.readUInt32BE(trailer + SIGNATURE_TRAILER_SIZE - 4)
  return object.subarray(0, trailer - signatureLength)
}

/**
 * Reads modules and everything they need, each after its dependencies.
 *
 * @param {string} directory where {@link flattenModules} put them
 * @param {string[]} names
 * @returns {KernelModule[]}
 * @throws {Error} when the kernel has no module of that name
 */
export function readModules(directory, names) {
  /** @type {Map<string, KernelModule>} */
  const ordered = new Map()
  /** @param {string} wanted */
  const visit = (wanted) => {
    const name = canonicalName(wanted)
    if (ordered.has(name)) return
    const path = join(directory, `${name}.ko`)
    if (!existsSync(path)) throw new Error(`the kernel has no module "${wanted}"`)
    const data = withoutSignature(readFileSync(path))
    for (const dependency of dependenciesOf(data)) visit(dependency)
    ordered.set(name, { name, data })
  }
  for (const name of names) visit(name)
  return [...ordered.values()]
}
