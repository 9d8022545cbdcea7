// The files of interfaces and straight-line codecs, a group of functions per record:
//   decodeX       checks the place and reads every field
//   encodeX       checks the place and every value, then writes
//   checkX, putX  the two halves of encodeX, used by the records that contain X

import { Checker } from './emit-check.mjs'
import { Decoder } from './emit-decode.mjs'
import { Encoder } from './emit-encode.mjs'
import { InterfaceEmitter } from './emit-interface.mjs'
import { Scope } from './emit-scope.mjs'
import { TailEmitter } from './emit-tail.mjs'
import { banner, pascal } from './text.mjs'

/** @typedef {import('./model.mjs').Shape} Shape */

/** Which file a record goes to. @param {import('./records.mjs').Record} record */
export function fileOf({ name, header }) {
  if (/^kvm_(sev|tdx)_/.test(name)) return 'structs-confidential'
  return { 'asm/kvm.h': 'structs-x86', 'linux/kvm.h': 'structs-kvm' }[header] ?? 'structs-para'
}

const fileRoles = {
  'structs-x86':
    'Structures of asm/kvm.h: registers, CPUID, MSRs, interrupt controllers, nested state.',
  'structs-confidential': 'Structures of asm/kvm.h for SEV, SEV-SNP and TDX.',
  'structs-kvm':
    'Structures of linux/kvm.h: kvm_run, memory, interrupt routing, devices, statistics.',
  'structs-para': 'Structures of asm/kvm_para.h, which a guest and KVM share in guest memory.',
}

/**
 * @param {Map<string, Shape>} shapes @param {Map<string, string[]>} users @param {string} version
 * @returns {Map<string, string>} Text by file name, with `structs` that re-exports what is public.
 */
export function emitStructs(shapes, users, version) {
  const files = new Map()
  for (const [file, role] of Object.entries(fileRoles)) {
    const own = [...shapes.values()].filter(({ record }) => fileOf(record) === file)
    files.set(file, emitFile(file, role, own, shapes, users, version))
  }
  files.set('structs', emitBarrel(shapes, version))
  return files
}

/** @param {Scope} scope @param {Shape[]} own */
function emitRecords(scope, own) {
  const interfaces = new InterfaceEmitter(scope)
  const decoder = new Decoder(scope)
  const checker = new Checker(scope)
  const encoder = new Encoder(scope, checker)
  const tails = new TailEmitter(scope, checker)
  return own.map((shape) => {
    scope.current = shape
    return [
      interfaces.interface(shape),
      decoder.decode(shape),
      checker.check(shape),
      encoder.put(shape),
      encoder.encode(shape),
      ...(shape.tail ? tails.tail(shape, shape.tail) : []),
    ].join('\n\n')
  })
}

/** @param {string} file @param {string} role @param {Shape[]} own @param {Map<string, Shape>} shapes @param {Map<string, string[]>} users @param {string} version */
function emitFile(file, role, own, shapes, users, version) {
  const scope = new Scope(shapes, users)
  const bodies = emitRecords(scope, own)
  /** @type {Map<string, Set<string>>} */
  const imports = new Map()
  for (const use of scope.used) {
    const [record, prefix] = use.split(' ')
    const shape = /** @type {Shape} */ (shapes.get(record))
    const from = fileOf(shape.record)
    if (from === file) continue
    const names = imports.get(from) ?? new Set()
    names.add(prefix ? `${prefix}${shape.type}` : `type ${shape.type}`)
    imports.set(from, names)
  }
  const lines = [`${banner(version)}// ${role}`, '']
  lines.push(importLine([...scope.helpers], '../codec.js'))
  lines.push("import type { StructView } from '../struct-view.js'")
  for (const [from, names] of imports) lines.push(importLine([...names], `./${from}.js`))
  return `${[...lines, '', bodies.join('\n\n')].join('\n')}\n`
}

/** @param {string[]} names @param {string} from */
function importLine(names, from) {
  return `import {\n${names
    .sort()
    .map((name) => `  ${name},`)
    .join('\n')}\n} from '${from}'`
}

/** @param {Map<string, Shape>} shapes @param {string} version */
function emitBarrel(shapes, version) {
  const lines = [
    `${banner(version)}// The public part of the codecs: check and put functions stay inside.`,
  ]
  for (const file of Object.keys(fileRoles)) {
    const names = []
    for (const { record, type, tail } of shapes.values()) {
      if (fileOf(record) !== file) continue
      names.push(`type ${type}`, `decode${type}`, `encode${type}`)
      if (tail) names.push(`decode${type}${pascal(tail.name)}`, `encode${type}${pascal(tail.name)}`)
    }
    lines.push(
      `export {\n${names
        .sort()
        .map((name) => `  ${name},`)
        .join('\n')}\n} from './${file}.js'`,
    )
  }
  return `${lines.join('\n')}\n`
}
