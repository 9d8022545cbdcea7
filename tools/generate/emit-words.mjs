// Constants, requests, layouts, and the native table, as text.

import { banner, doc, literal } from './text.mjs'

/**
 * @typedef {import('./words.mjs').Constant} Constant
 * @typedef {import('./words.mjs').Request} Request
 */

/** @param {Constant[]} constants @param {any[]} capabilities @param {any[]} exits @param {string} version */
export function emitConstants(constants, capabilities, exits, version) {
  const notes = new Map([...capabilities, ...exits].map((fact) => [fact.name, fact]))
  const lines = [
    `${banner(version)}// Every x86-64 constant of the KVM headers, in the headers' order.`,
  ]
  for (const { name, header, value } of constants) {
    lines.push('', doc(constantNote(name, header, notes.get(name))))
    lines.push(`export const ${name} = ${literal(value)}`)
  }
  const capabilityNames = constants
    .map(({ name }) => name)
    .filter((name) => name.startsWith('KVM_CAP_'))
  const reasons = new Set(exits.map((exit) => exit.name))
  const exitNames = constants.map(({ name }) => name).filter((name) => reasons.has(name))
  lines.push('', doc('Every capability number by name, those of other architectures included.'))
  lines.push(table('capabilityNumbers', capabilityNames))
  lines.push(
    '',
    doc('Every exit reason (kvm_run.exit_reason) by name, those of other architectures included.'),
  )
  lines.push(table('exitNumbers', exitNames))
  return `${lines.join('\n')}\n`
}

/** @param {string} variable @param {string[]} names */
function table(variable, names) {
  const rows = names.map((name) => `  ${name},`).join('\n')
  return `export const ${variable}: Readonly<Record<string, number>> = {\n${rows}\n}`
}

/** @param {string} name @param {string} header @param {any} fact */
function constantNote(name, header, fact) {
  const note = fact?.note ? ` ${sentence(fact.note)}` : ''
  const since = fact?.since ? ` Since Linux ${fact.since}.` : ''
  return `\`${name}\` of ${header}.${note}${since}`
}

/** @param {string} text */
function sentence(text) {
  const safe = text.trim().replaceAll('*/', '* /')
  const capital = safe.charAt(0).toUpperCase() + safe.slice(1)
  return /[.!?]$/.test(capital) ? capital : `${capital}.`
}

/** @param {number} request */
function hex(request) {
  return `0x${request.toString(16).padStart(8, '0')}`
}

/** @param {Request[]} requests @param {string} version */
export function emitRequests(requests, version) {
  const lines = [
    `${banner(version)}// Every ioctl request of KVM on x86-64.`,
    '',
    "import type { RequestInfo } from '../request-info.js'",
  ]
  for (const request of requests) {
    lines.push(
      '',
      doc(requestNote(request)),
      `export const ${request.name} = ${hex(request.request)}`,
    )
  }
  lines.push('', doc('Every request by name: its number, argument and the fds it belongs to.'))
  lines.push('export const requests: Readonly<Record<string, RequestInfo>> = {')
  for (const request of requests) lines.push(...requestRow(request))
  lines.push('}')
  return `${lines.join('\n')}\n`
}

/** @param {Request} request */
function requestNote({ name, scopes, struct, size, argument, fact }) {
  const direction = fact.dataDirection ? `, ${fact.dataDirection.split(' ')[0]}` : ''
  const what =
    argument === 'pointer'
      ? `a pointer to ${struct ? `\`${struct}\`` : 'a block'} (${size} bytes${direction})`
      : fact.arg.startsWith('value')
        ? `a ${sentence(fact.arg)
            .replace(/\.$/, '')
            .replace(/^Value: /, 'value, the ')}`
        : 'none'
  const capability = fact.capability ? ` Needs ${fact.capability}.` : ''
  const note = fact.note ? ` ${sentence(fact.note)}` : ''
  return `\`${name}\` (linux/kvm.h), on a ${scopes.join(' or ')} fd. Argument: ${what}.${capability}${note}`
}

/** @param {Request} row */
function requestRow({ name, size, argument, scopes, struct, flex, flags, fact }) {
  const lines = [
    `  ${name}: {`,
    `    name: '${name}',`,
    `    request: ${name},`,
    `    size: ${size},`,
  ]
  lines.push(`    argument: '${argument}',`)
  lines.push(`    scopes: [${scopes.map((scope) => `'${scope}'`).join(', ')}],`)
  if (struct) lines.push(`    struct: '${struct}',`)
  if (fact.capability) lines.push(`    capability: '${fact.capability}',`)
  if (flex) {
    const { countOffset, countSize, elementSize, max } = flex
    const limit = max ? `, max: ${max}` : ''
    lines.push(
      `    flex: { countOffset: ${countOffset}, countSize: ${countSize}, elementSize: ${elementSize}, headerSize: ${size}${limit} },`,
    )
  }
  lines.push(`    pointers: ${flags.includes('HAS_POINTERS')},`, '  },')
  return lines
}

/** @param {Map<string, import('./model.mjs').Shape>} shapes @param {string} version */
export function emitLayouts(shapes, version) {
  const names = [...shapes.keys()]
  const lines = [
    `${banner(version)}// Where every field of every structure is.`,
    '',
    "import type { StructLayout } from '../struct-layout.js'",
    '',
    doc('C name of a structure; nested ones have their path, e.g. `kvm_run.io`.'),
    `export type StructName =\n${names.map((name) => `  | '${name}'`).join('\n')}`,
    '',
    doc('Size, alignment and fields of every structure, by C name.'),
    'export const layouts: Readonly<Record<StructName, StructLayout>> = {',
  ]
  for (const shape of shapes.values()) lines.push(...layoutRow(shape))
  lines.push('}')
  return `${lines.join('\n')}\n`
}

/** @param {import('./model.mjs').Shape} shape */
function layoutRow(shape) {
  const { record } = shape
  const lines = [`  '${record.name}': {`]
  lines.push(
    `    name: '${record.name}',`,
    `    typeName: '${shape.type}',`,
    `    kind: '${record.kind}',`,
  )
  lines.push(
    `    header: '${record.header}',`,
    `    size: ${record.size},`,
    `    align: ${record.align},`,
  )
  const tag = shape.tag ?? shape.unions.find((union) => union.tag)?.tag
  if (tag) {
    const members = tag.cases.flatMap(({ values, members }) =>
      values.map((value) => `${value}: [${members.map((member) => `'${member}'`).join(', ')}]`),
    )
    lines.push(`    select: { by: '${tag.by}', members: { ${members.join(', ')} } },`)
  }
  lines.push('    fields: {')
  for (const field of record.fields) lines.push(`      ${field.name}: { ${fieldRow(field)} },`)
  lines.push('    },', '  },')
  return lines
}

/** @param {import('./records.mjs').Field} field */
function fieldRow(field) {
  const parts = [`offset: ${field.offset}`, `size: ${field.size}`]
  parts.push(`type: '${field.isRecord ? `struct:${field.type}` : field.type}'`)
  if (field.dims.length > 0) parts.push(`dims: [${field.dims.join(', ')}]`)
  if (field.flexible) parts.push('flexible: true')
  if (field.group !== undefined) parts.push(`union: ${field.group}`)
  if (field.bits) parts.push(`bits: { shift: ${field.bits.shift}, width: ${field.bits.width} }`)
  if (field.number) parts.push('number: true')
  if (field.padding) parts.push('padding: true')
  return parts.join(', ')
}

const nativeScopes = {
  system: 'kScopeSystem',
  vm: 'kScopeVm',
  vcpu: 'kScopeVcpu',
  device: 'kScopeDevice',
}
const nativeArguments = {
  none: 'ArgKind::kNone',
  value: 'ArgKind::kValue',
  pointer: 'ArgKind::kPointer',
}
const nativeFlags = {
  HAS_POINTERS: 'kHasPointers',
  SIZE_XSAVE2: 'kSizeXsave2',
  SIZE_FIELD: 'kSizeField',
  RETURNS_FD: 'kReturnsFd',
}

/** @param {Request[]} requests @param {{ name: string, value: number }[]} pointerCapabilities @param {string} version */
export function emitNative(requests, pointerCapabilities, version) {
  const rows = requests.map(({ name, request, size, scopes, argument, flex, flags }) => {
    const cells = [
      name,
      hex(request),
      size,
      scopes.map((scope) => nativeScopes[/** @type {'vm'} */ (scope)]).join(' | '),
      nativeArguments[argument],
      flex?.countOffset ?? 0,
      flex?.countSize ?? 0,
      flex?.elementSize ?? 0,
      flex?.max ?? 0,
      flags.map((flag) => nativeFlags[/** @type {'HAS_POINTERS'} */ (flag)]).join(' | ') || '0',
    ]
    return `KVM_REQUEST(${cells.join(', ')})`
  })
  const capabilities = pointerCapabilities.map(
    ({ name, value }) => `KVM_POINTER_CAPABILITY(${name}, ${value})`,
  )
  return `${nativeHead(version)}${rows.join('\n')}
#undef KVM_REQUEST
#endif

#ifdef KVM_POINTER_CAPABILITY
${capabilities.join('\n')}
#undef KVM_POINTER_CAPABILITY
#endif
`
}

/** @param {string} version */
function nativeHead(version) {
  return `${banner(version)}// The KVM requests of x86-64, for whoever defines KVM_REQUEST before including this file:
//
//   name          as in linux/kvm.h (do not include that header: its macros would replace the name)
//   number        the ioctl request
//   fixed_size    bytes of the argument before any variable part; 0 if it is no pointer
//   scopes        the kinds of fd that take it
//   arg           nothing, a plain value, or a pointer
//   count_offset  where the element count is within the fixed part
//   count_size    bytes of the count; 0 if the argument is not of variable length
//   element_size  bytes of one element
//   max_count     most elements the kernel takes; 0 if the table knows no limit
//   flags         kHasPointers     holds host addresses or fds: the generic path refuses it
//                 kSizeXsave2      as many bytes as KVM_CAP_XSAVE2 says
//                 kSizeField       the count field holds the size of the whole argument
//                 kReturnsFd       the result is a new fd
//
// KVM_POINTER_CAPABILITY(name, number) rows are given to whoever defines that macro: capabilities
// whose KVM_ENABLE_CAP args[0] (8 bytes at 8) is a host address or an fd. KVM_ENABLE_CAP carries no
// kHasPointers for them, so the generic path has to look at cap (4 bytes at 0).
#ifdef KVM_REQUEST
`
}

/** Requests by the struct they take. @param {Request[]} requests */
export function usersOf(requests) {
  /** @type {Map<string, string[]>} */
  const users = new Map()
  for (const { name, struct } of requests) {
    if (struct) users.set(struct, [...(users.get(struct) ?? []), name])
  }
  return users
}
