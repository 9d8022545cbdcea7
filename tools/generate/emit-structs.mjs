// Interfaces and straight-line codecs, one group of functions per record:
//   decodeX  checks the place, reads every field;
//   encodeX  checks the place and every value, then writes: a refused value leaves no half-written
//            struct behind, which matters on the shared kvm_run page;
//   checkX, putX  the two halves of encodeX, used by the records that contain X.

import { hotStructs } from './facts.mjs'
import { elementCount, elementType, fieldType, isBigint, isBytes, scalarSize } from './model.mjs'
import { banner, doc, pascal } from './text.mjs'

/**
 * @typedef {import('./records.mjs').Field} Field
 * @typedef {import('./model.mjs').Shape} Shape
 */

/** Codec text for a set of records. */
class Emitter {
  /** @param {Map<string, Shape>} shapes @param {Map<string, string[]>} users Requests by struct. */
  constructor(shapes, users) {
    this.shapes = shapes
    this.users = users
    /** @type {Set<string>} */
    this.helpers = new Set()
    /** @type {Set<string>} Records used here that may live in another file. */
    this.used = new Set()
    /** @type {Shape | undefined} The record being written. */
    this.current = undefined
  }

  /** @param {string} name */
  helper(name) {
    this.helpers.add(name)
    return name
  }

  /** @param {string} record @param {string} prefix */
  other(record, prefix) {
    const name = `${prefix}${pascal(record)}`
    this.used.add(`${record} ${prefix}`)
    return name
  }

  /** @param {Shape} shape */
  record(shape) {
    return [
      this.interface(shape),
      this.decode(shape),
      this.check(shape),
      this.put(shape),
      this.encode(shape),
      ...(shape.tail ? this.tail(shape, shape.tail) : []),
    ].join('\n\n')
  }

  /** @param {Shape} shape */
  interface(shape) {
    const { record } = shape
    const lines = [doc(this.#summary(shape))]
    lines.push(`export interface ${shape.type} {`)
    for (const field of shape.plain) {
      lines.push(doc(fieldNote(field), '  '), `  ${field.name}: ${this.#type(field)}`)
    }
    for (const { fields } of shape.unions) {
      for (const field of fields) {
        lines.push(doc(`${fieldNote(field)} One member of a union.`, '  '))
        lines.push(`  ${field.name}?: ${this.#type(field)}`)
      }
    }
    if (shape.tag) {
      lines.push(doc(`All ${record.size} bytes, where no member is known to apply.`, '  '))
      lines.push('  raw?: Uint8Array')
    }
    lines.push('}')
    return lines.join('\n')
  }

  /** @param {Field} field */
  #type(field) {
    if (field.isRecord) this.used.add(`${field.type} `)
    return fieldType(field)
  }

  /** @param {Shape} shape */
  #summary({ record, tag, unions, tail }) {
    const { name, kind, header, size } = record
    const top = name.split('.')[0]
    const what =
      name === top
        ? `\`${kind} ${name}\``
        : `\`${name.slice(top.length + 1)}\` of \`struct ${top}\``
    const parts = [`${what} (${header}), ${size} bytes.`]
    const users = this.users.get(name)
    if (users) parts.push(`Used by ${users.join(', ')}.`)
    if (tag) parts.push(`A union: \`${tag.by}\` beside it selects the member.`)
    else if (unions.some((union) => union.tag)) {
      parts.push(`\`${unions[0].tag?.by}\` selects the member of its union.`)
    } else if (unions.length > 0) {
      parts.push(
        'Decoding gives every member of its union; encoding takes one, or several that agree.',
      )
    }
    if (tail) parts.push(`Followed by the flexible array \`${tail.name}\`.`)
    return parts.join(' ')
  }

  /** @param {Shape} shape */
  decode(shape) {
    const { record, type, tag, unions } = shape
    const lines = [
      doc(
        `Reads \`${record.name}\` at \`offset\`${reuse(shape) ? ', into an existing object if given' : ''}.`,
      ),
    ]
    const parameters = ['view: StructView', 'offset = 0']
    if (tag) parameters.splice(1, 1, 'offset: number', `${tag.by}: number`)
    if (reuse(shape)) parameters.push(`into?: ${type}`)
    lines.push(`export function decode${type}(${parameters.join(', ')}): ${type} {`)
    lines.push(this.#place(shape))
    lines.push(...this.#locals(shape))
    if (tag) lines.push(...this.#decodeTagged(shape))
    else if (unions.some((union) => union.tag)) lines.push(...this.#decodeSelected(shape))
    else lines.push(...this.#decodeAll(shape))
    lines.push('}')
    return lines.join('\n')
  }

  /** @param {Shape} shape */
  #place({ record }) {
    this.helper('checkPlace')
    return `  checkPlace(view, offset, ${record.size}, ${record.align - 1}, '${record.name}')`
  }

  /** Local names for the arrays and indices that the reads or writes use. @param {Shape} shape */
  #locals({ plain, unions, gaps, record }, writing = false) {
    const fields = [...plain, ...unions.flatMap((union) => union.fields)]
    const scalars = fields.filter((field) => !field.isRecord && !isBytes(field))
    const arrays = new Set(scalars.map(arrayOf))
    const indices = new Set(scalars.map((field) => scalarSize(field.number ? 'u32' : field.type)))
    const blanks = writing && unions.length === 0 ? gaps.flatMap(zeroWords) : []
    for (const { width } of blanks) {
      if (width === 0) continue
      arrays.add(width === 8 ? 'u64' : `u${width * 8}`)
      indices.add(width)
    }
    if (writing && record.kind === 'union') indices.delete(0)
    const lines = [...arrays].map((array) => `  const ${array} = view.${array}`)
    for (const [width, name, shift] of indexNames) {
      if (indices.has(width)) lines.push(`  const ${name} = offset >>> ${shift}`)
    }
    return lines
  }

  /** @param {Shape} shape */
  #decodeAll(shape) {
    const fields = [...shape.plain, ...shape.unions.flatMap((union) => union.fields)]
    const lines = []
    if (reuse(shape)) {
      lines.push('  if (into !== undefined) {')
      for (const field of fields) {
        lines.push(
          `    into.${field.name} = ${this.#read(field, reusable(field, this.shapes) ? `into.${field.name}` : '')}`,
        )
      }
      lines.push('    return into', '  }')
    }
    lines.push('  return {')
    for (const field of fields) lines.push(`    ${field.name}: ${this.#read(field, '')},`)
    lines.push('  }')
    return lines
  }

  /** A named union, its member selected by the holder. @param {Shape} shape */
  #decodeTagged({ tag, unions, record }) {
    const lines = [`  switch (${tag?.by}) {`]
    for (const { values, members } of tag?.cases ?? []) {
      for (const value of values) lines.push(`    case ${value}:`)
      const fields = unions[0].fields.filter((field) => members.includes(field.name))
      const text = fields.map((field) => `${field.name}: ${this.#read(field, '')}`)
      lines.push(`      return { ${text.join(', ')} }`)
    }
    lines.push(
      '    default:',
      `      return { raw: view.u8.slice(offset, offset + ${record.size}) }`,
      '  }',
    )
    return lines
  }

  /** A struct with an anonymous union that one of its own fields selects. @param {Shape} shape */
  #decodeSelected(shape) {
    const [{ tag, fields }] = shape.unions
    const lines = [`  const value: ${shape.type} = {`]
    for (const field of shape.plain) lines.push(`    ${field.name}: ${this.#read(field, '')},`)
    lines.push('  }', `  switch (value.${tag?.by}) {`)
    for (const { values, members } of tag?.cases ?? []) {
      for (const value of values) lines.push(`    case ${value}:`)
      for (const field of fields.filter(({ name }) => members.includes(name))) {
        lines.push(`      value.${field.name} = ${this.#read(field, '')}`)
      }
      lines.push('      break')
    }
    lines.push('  }', '  return value')
    return lines
  }

  /** Expression that reads a field. @param {Field} field @param {string} into */
  #read(field, into) {
    if (isBytes(field)) return this.#readBytes(field)
    if (field.isRecord) return this.#readRecord(field, into)
    if (field.dims.length > 0) return this.#readScalars(field)
    if (field.bits) {
      const { shift, width } = field.bits
      return `(u8[offset + ${field.offset}]! >>> ${shift}) & ${(1 << width) - 1}`
    }
    if (field.number) {
      const low = place(field.offset, 4)
      return `u32[${low}]! + u32[${place(field.offset + 4, 4)}]! * 0x100000000`
    }
    return `${arrayOf(field)}[${place(field.offset, scalarSize(field.type))}]!`
  }

  /** @param {Field} field */
  #readBytes(field) {
    const length = field.dims[field.dims.length - 1]
    const slice = (/** @type {number} */ at) =>
      `view.u8.slice(${plus('offset', at)}, ${plus('offset', at + length)})`
    if (field.dims.length === 1) return slice(field.offset)
    const rows = Array.from({ length: field.dims[0] }, (_, row) =>
      slice(field.offset + row * length),
    )
    return `[\n      ${rows.join(',\n      ')},\n    ]`
  }

  /** @param {Field} field @param {string} into */
  #readRecord(field, into) {
    const decode = this.other(field.type, 'decode')
    const inner = this.shapes.get(field.type)
    const call = (/** @type {string} */ at, /** @type {string} */ old) => {
      if (inner?.tag) return `${decode}(view, ${at}, ${this.#tagValue(inner.tag.by)})`
      return `${decode}(view, ${at}${old ? `, ${old}` : ''})`
    }
    if (field.dims.length === 0) return call(plus('offset', field.offset), into)
    const step = field.size / elementCount(field)
    if (elementCount(field) <= 4) {
      const items = Array.from({ length: elementCount(field) }, (_, k) =>
        call(plus('offset', field.offset + k * step), ''),
      )
      return `[${items.join(', ')}]`
    }
    return `Array.from({ length: ${elementCount(field)} }, (_, k) => ${call(`${plus('offset', field.offset)} + k * ${step}`, '')})`
  }

  /** The selecting field, read from the holder. @param {string} by */
  #tagValue(by) {
    const field = this.current?.plain.find(({ name }) => name === by)
    if (!field) throw new Error(`${this.current?.record.name} has no field ${by}`)
    return this.#read(field, '')
  }

  /** @param {Field} field */
  #readScalars(field) {
    if (field.dims.length !== 1) throw new Error(`${field.name}: array of arrays`)
    const width = scalarSize(field.type)
    const count = field.dims[0]
    if (count > 16) {
      const helper = this.helper(width === 8 ? 'readBigints' : 'readNumbers')
      return `${helper}(${arrayOf(field)}, ${place(field.offset, width)}, ${count})`
    }
    const items = Array.from(
      { length: count },
      (_, k) => `${arrayOf(field)}[${place(field.offset + k * width, width)}]!`,
    )
    return `[${items.join(', ')}]`
  }

  /** @param {Shape} shape */
  check(shape) {
    this.helper('checkObject')
    const { type, record } = shape
    const lines = [
      doc(`Refuses what is not a \`${record.name}\`.`),
      `export function check${type}(value: ${type}, path: string, index: number): void {`,
      '  checkObject(value, path, index)',
      ...shape.plain.flatMap((field) => this.#checkField(field, '  ')),
    ]
    for (const { fields } of shape.unions) {
      for (const field of fields) {
        lines.push(
          `  if (value.${field.name} !== undefined) {`,
          ...this.#checkField(field, '    '),
          '  }',
        )
      }
      if (fields.length > 1) lines.push(...this.#checkAgreement(fields))
    }
    if (shape.tag) {
      this.helper('checkBytes')
      lines.push(
        `  if (value.raw !== undefined) checkBytes(value.raw, ${record.size}, path, index, 'raw')`,
      )
    }
    lines.push('}')
    return lines.join('\n')
  }

  /** @param {Field[]} fields */
  #checkAgreement(fields) {
    this.helper('checkAgreement')
    const lines = []
    const sorted = bySize(fields)
    const count = sorted.map(({ name }) => `+(value.${name} !== undefined)`).join(' + ')
    lines.push(`  if (${count} > 1) {`, '    checkAgreement(path, index, [')
    for (const field of sorted) {
      const write = this.#writeAlone(field)
      lines.push(
        `      value.${field.name} === undefined`,
        '        ? undefined',
        `        : ['${field.name}', ${field.size}, (view) => ${write}],`,
      )
    }
    lines.push('    ])', '  }')
    return lines
  }

  /** Expression that writes a union's member at the start of an empty view. @param {Field} field */
  #writeAlone(field) {
    const value = `value.${field.name}!`
    if (field.isRecord) return `${this.other(field.type, 'put')}(view, 0, ${value})`
    if (isBytes(field)) return `view.u8.set(${value})`
    if (field.dims.length > 0) return `view.${arrayOf(field)}.set(${value})`
    if (field.number) throw new Error(`${field.name}: a number field in a union`)
    return `(view.${arrayOf(field)}[0] = ${value})`
  }

  /** @param {Field} field @param {string} indent @returns {string[]} */
  #checkField(field, indent) {
    const value = `value.${field.name}`
    const where = `path, index, '${field.name}'`
    if (isBytes(field)) return this.#checkByteField(field, indent)
    if (field.dims.length === 0) {
      if (field.isRecord)
        return [
          `${indent}${this.other(field.type, 'check')}(${value}, ${subPath(this.current, field)}, -1)`,
        ]
      return [this.#checkScalar(field, value, where, indent)]
    }
    this.helper('checkArray')
    const count = elementCount(field)
    const lines = [`${indent}checkArray(${value}, ${count}, ${where})`]
    lines.push(`${indent}for (let k = 0; k < ${count}; k++) {`)
    if (field.isRecord)
      lines.push(
        `${indent}  ${this.other(field.type, 'check')}(${value}[k]!, ${subPath(this.current, field)}, k)`,
      )
    else {
      lines.push(`${indent}  const item = ${value}[k]!`)
      lines.push(
        this.#checkScalar(field, 'item', `${subPath(this.current, field)}, k, ''`, `${indent}  `),
      )
    }
    lines.push(`${indent}}`)
    return lines
  }

  /** @param {Field} field @param {string} indent */
  #checkByteField(field, indent) {
    this.helper('checkBytes')
    const length = field.dims[field.dims.length - 1]
    if (field.dims.length === 1) {
      return [`${indent}checkBytes(value.${field.name}, ${length}, path, index, '${field.name}')`]
    }
    this.helper('checkArray')
    return [
      `${indent}checkArray(value.${field.name}, ${field.dims[0]}, path, index, '${field.name}')`,
      `${indent}for (let k = 0; k < ${field.dims[0]}; k++) {`,
      `${indent}  checkBytes(value.${field.name}[k], ${length}, ${subPath(this.current, field)}, k, '')`,
      `${indent}}`,
    ]
  }

  /** @param {Field} field @param {string} value @param {string} where @param {string} indent */
  #checkScalar(field, value, where, indent) {
    if (isBigint(field)) {
      const signed = field.type === 'i64'
      // Inline: a call for each of kvm_regs' 18 fields exceeds what V8 inlines into one function.
      const wrapped = `BigInt.${signed ? 'asIntN' : 'asUintN'}(64, ${value})`
      const bad = `${this.helper('badBigint')}(${where}, ${value}, ${signed})`
      return `${indent}if (typeof ${value} !== 'bigint' || ${wrapped} !== ${value}) ${bad}`
    }
    const [min, max] = numberRange(field)
    const bad = `${this.helper('badNumber')}(${where}, ${value}, ${min}, ${max})`
    if (field.number) return `${indent}if (!${this.helper('isSize')}(${value})) ${bad}`
    const narrowed = narrow(field, value)
    // Without the typeof, a bigint or a symbol would end in an error that names no field.
    return `${indent}if (typeof ${value} !== 'number' || ${narrowed} !== ${value}) ${bad}`
  }

  /** @param {Shape} shape */
  put(shape) {
    const { type, record, plain, unions, gaps, tag } = shape
    const lines = [
      doc(`Writes a checked \`${record.name}\`.`),
      `export function put${type}(view: StructView, offset: number, value: ${type}): void {`,
      ...this.#locals(shape, true),
      ...(unions.length > 0 ? zeroUnions(shape) : gaps.flatMap(zeroWords).map(zeroLine)),
    ]
    const bits = plain.filter((field) => field.bits)
    for (const field of plain) {
      if (!field.bits) lines.push(...this.#write(field, '  '))
    }
    for (const at of new Set(bits.map((field) => field.offset))) lines.push(writeBits(bits, at))
    for (const { fields } of unions) lines.push(...this.#writeUnion(fields, tag !== undefined))
    lines.push('}')
    return lines.join('\n')
  }

  /** @param {Field[]} fields @param {boolean} raw */
  #writeUnion(fields, raw) {
    const lines = []
    let word = '  if'
    for (const field of bySize(fields)) {
      lines.push(`${word} (value.${field.name} !== undefined) {`, ...this.#write(field, '    '))
      word = '  } else if'
    }
    if (raw) {
      lines.push(`${word} (value.raw !== undefined) {`, '    view.u8.set(value.raw, offset)')
    }
    lines.push('  }')
    return lines
  }

  /** @param {Field} field @param {string} indent @returns {string[]} */
  #write(field, indent) {
    const value = `value.${field.name}`
    const count = elementCount(field)
    if (isBytes(field)) return writeBytes(field, indent)
    if (field.isRecord) {
      const put = this.other(field.type, 'put')
      if (field.dims.length === 0)
        return [`${indent}${put}(view, ${plus('offset', field.offset)}, ${value})`]
      const step = field.size / count
      return [
        `${indent}for (let k = 0; k < ${count}; k++) {`,
        `${indent}  ${put}(view, ${plus('offset', field.offset)} + k * ${step}, ${value}[k]!)`,
        `${indent}}`,
      ]
    }
    if (field.number) {
      return [
        `${indent}u32[${place(field.offset, 4)}] = ${value}`,
        `${indent}u32[${place(field.offset + 4, 4)}] = ${value} / 0x100000000`,
      ]
    }
    const width = scalarSize(field.type)
    const at = place(field.offset, width)
    if (field.dims.length === 0) return [`${indent}${arrayOf(field)}[${at}] = ${value}`]
    return [
      `${indent}for (let k = 0; k < ${count}; k++) ${arrayOf(field)}[${at} + k] = ${value}[k]!`,
    ]
  }

  /** @param {Shape} shape */
  encode(shape) {
    const { record, type } = shape
    const body = hotStructs.has(record.name)
      ? this.#fused(shape)
      : [`  check${type}(value, '${record.name}', -1)`, `  put${type}(view, offset, value)`]
    return [
      doc(
        `Writes \`${record.name}\` at \`offset\`; padding becomes zero, and a refused value changes nothing.`,
      ),
      `export function encode${type}(view: StructView, offset: number, value: ${type}): void {`,
      this.#place(shape),
      ...body,
      '}',
    ].join('\n')
  }

  /** Check and write of a flat struct in one go. @param {Shape} shape */
  #fused(shape) {
    const { record, plain, unions, gaps } = shape
    const simple = plain.every(
      (field) => !field.isRecord && !field.number && !field.bits && field.dims.length === 0,
    )
    if (!simple || unions.length > 0 || gaps.length > 0)
      throw new Error(`${record.name} is not flat`)
    return [
      `  checkObject(value, '${record.name}', -1)`,
      ...plain.map(({ name }) => `  const ${name} = value.${name}`),
      ...plain.map((field) =>
        this.#checkScalar(field, field.name, `'${record.name}', -1, '${field.name}'`, '  '),
      ),
      ...this.#locals(shape, true),
      ...plain.map(
        (field) =>
          `  ${arrayOf(field)}[${place(field.offset, scalarSize(field.type))}] = ${field.name}`,
      ),
    ]
  }

  /** Decode and encode of a flexible array. @param {Shape} shape @param {Field} tail */
  tail(shape, tail) {
    const { record, type } = shape
    const name = `${type}${pascal(tail.name)}`
    const path = `${record.name}.${tail.name}`
    const size = tail.isRecord
      ? (this.shapes.get(tail.type)?.record.size ?? 0)
      : scalarSize(tail.type)
    this.helper('checkCount')
    const isByte = tail.type === 'u8'
    const list = isByte ? 'Uint8Array' : `${elementType(tail)}[]`
    const start = plus('offset', tail.offset)
    return [
      [
        doc(
          `Reads \`count\` elements of \`${tail.name}\`, which follow the \`${record.name}\` at \`offset\`.`,
        ),
        `export function decode${name}(view: StructView, count: number, offset = 0): ${list} {`,
        this.#place(shape),
        `  checkCount(view, ${start}, count, ${size}, '${path}')`,
        ...this.#decodeTail(tail, start, size),
        '}',
      ].join('\n'),
      [
        doc(
          `Writes \`values\` as \`${tail.name}\` of the \`${record.name}\` at \`offset\`. The count beside it is not set.`,
        ),
        `export function encode${name}(view: StructView, offset: number, values: ${isByte ? list : `readonly ${list}`}): void {`,
        this.#place(shape),
        ...this.#encodeTail(tail, start, size, path),
        '}',
      ].join('\n'),
    ]
  }

  /** @param {Field} tail @param {string} start @param {number} size */
  #decodeTail(tail, start, size) {
    if (tail.type === 'u8') return [`  return view.u8.slice(${start}, ${start} + count)`]
    if (tail.isRecord) {
      const decode = this.other(tail.type, 'decode')
      return [
        `  const out: ${pascal(tail.type)}[] = []`,
        `  for (let k = 0; k < count; k++) out.push(${decode}(view, ${start} + k * ${size}))`,
        '  return out',
      ]
    }
    const helper = this.helper(isBigint(tail) ? 'readBigints' : 'readNumbers')
    return [`  return ${helper}(view.${tail.type}, (${start}) >>> ${size === 8 ? 3 : 2}, count)`]
  }

  /** @param {Field} tail @param {string} start @param {number} size @param {string} path */
  #encodeTail(tail, start, size, path) {
    if (tail.type === 'u8') {
      this.helper('checkBytes')
      return [
        `  checkBytes(values, values?.length, '${path}', -1, '')`,
        `  checkCount(view, ${start}, values.length, 1, '${path}')`,
        `  view.u8.set(values, ${start})`,
      ]
    }
    this.helper('checkArray')
    const lines = [
      `  checkArray(values, values?.length, '${path}', -1, '')`,
      `  checkCount(view, ${start}, values.length, ${size}, '${path}')`,
      '  for (let k = 0; k < values.length; k++) {',
    ]
    if (tail.isRecord) {
      lines.push(`    ${this.other(tail.type, 'check')}(values[k]!, '${path}', k)`)
      const put = `${this.other(tail.type, 'put')}(view, ${start} + k * ${size}, values[k]!)`
      return [...lines, '  }', `  for (let k = 0; k < values.length; k++) ${put}`]
    }
    lines.push(
      '    const item = values[k]!',
      this.#checkScalar(tail, 'item', `'${path}', k, ''`, '    '),
    )
    const at = `(${start}) >>> ${size === 8 ? 3 : 2}`
    return [
      ...lines,
      '  }',
      `  const at = ${at}`,
      `  for (let k = 0; k < values.length; k++) view.${tail.type}[at + k] = values[k]!`,
    ]
  }
}

/** Index variable of each width, and the shift that makes it. */
const indexNames = /** @type {[number, string, number][]} */ ([
  [8, 'q', 3],
  [4, 'd', 2],
  [2, 'w', 1],
])

/** Index expression for bytes at a constant distance. @param {number} offset @param {number} width */
function place(offset, width) {
  const name = { 8: 'q', 4: 'd', 2: 'w', 1: 'offset' }[width] ?? ''
  return plus(name, offset / width)
}

/** @param {string} base @param {number} distance */
function plus(base, distance) {
  return distance === 0 ? base : `${base} + ${distance}`
}

/** The view's array that holds a scalar. @param {Field} field */
function arrayOf(field) {
  if (field.number) return 'u32'
  return field.type === 'pointer' ? 'u64' : field.type
}

/** @param {Field[]} fields */
function bySize(fields) {
  return [...fields].sort((a, b) => b.size - a.size)
}

/**
 * What a field is called in errors about what it contains: its own struct's name and no more, since
 * a path put together at run time would cost an allocation for every nested struct.
 * @param {Shape | undefined} shape @param {Field} field
 */
function subPath(shape, field) {
  return `'${shape?.record.name}.${field.name}'`
}

/** @param {Field} field @returns {[number, string | number]} */
function numberRange(field) {
  if (field.bits) return [0, (1 << field.bits.width) - 1]
  if (field.number) return [0, 'Number.MAX_SAFE_INTEGER']
  const bits = scalarSize(field.type) * 8
  return field.type.startsWith('i') ? [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] : [0, 2 ** bits - 1]
}

/** Expression that equals `value` only if it is in range. @param {Field} field @param {string} value */
function narrow(field, value) {
  if (field.bits) return `(${value} & ${(1 << field.bits.width) - 1})`
  switch (field.type) {
    case 'u8':
      return `(${value} & 0xff)`
    case 'u16':
      return `(${value} & 0xffff)`
    case 'u32':
      return `${value} >>> 0`
    case 'i32':
      return `(${value} | 0)`
    case 'i16':
      return `(${value} << 16) >> 16`
    case 'i8':
      return `(${value} << 24) >> 24`
    default:
      throw new Error(field.type)
  }
}

/** Whether decode can fill an object it is given: not where unions leave members absent. @param {Shape} shape */
function reuse(shape) {
  return shape.tag === undefined && !shape.unions.some((union) => union.tag)
}

/** @param {Field} field @param {Map<string, Shape>} shapes */
function reusable(field, shapes) {
  const inner = shapes.get(field.type)
  return (
    field.isRecord &&
    field.dims.length === 0 &&
    inner !== undefined &&
    reuse(inner) &&
    field.group === undefined
  )
}

/** Splits a gap into aligned words. @param {[number, number]} gap */
function zeroWords([start, end]) {
  const words = []
  for (let at = start; at < end; ) {
    const width = [8, 4, 2, 1].find((size) => at % size === 0 && at + size <= end) ?? 1
    words.push({ at, width: end - start > 64 ? 0 : width, end })
    if (end - start > 64) break
    at += width
  }
  return words
}

/** @param {{ at: number, width: number, end: number }} word */
function zeroLine({ at, width, end }) {
  if (width === 0) return `  view.u8.fill(0, ${plus('offset', at)}, offset + ${end})`
  const array = width === 8 ? 'u64' : `u${width * 8}`
  return `  ${array}[${place(at, width)}] = ${width === 8 ? '0n' : '0'}`
}

/** @param {Shape} shape */
function zeroUnions({ record, unions, gaps }) {
  const all = record.kind === 'union' || gaps.length > 0
  if (all) return [`  view.u8.fill(0, offset, offset + ${record.size})`]
  return unions.map(
    ({ offset, size }) => `  view.u8.fill(0, ${plus('offset', offset)}, offset + ${offset + size})`,
  )
}

/** @param {Field} field @param {string} indent */
function writeBytes(field, indent) {
  const value = `value.${field.name}`
  if (field.dims.length === 1)
    return [`${indent}view.u8.set(${value}, ${plus('offset', field.offset)})`]
  const length = field.dims[field.dims.length - 1]
  return [
    `${indent}for (let k = 0; k < ${field.dims[0]}; k++) view.u8.set(${value}[k]!, ${plus('offset', field.offset)} + k * ${length})`,
  ]
}

/** @param {Field[]} bits @param {number} at */
function writeBits(bits, at) {
  const parts = bits
    .filter((field) => field.offset === at)
    .map((field) =>
      field.bits?.shift ? `(value.${field.name} << ${field.bits.shift})` : `value.${field.name}`,
    )
  return `  u8[offset + ${at}] = ${parts.join(' | ')}`
}

/** @param {Field} field */
function fieldNote(field) {
  const place = field.bits
    ? `bits ${field.bits.shift}..${field.bits.shift + field.bits.width - 1} of the byte at ${field.offset}`
    : `at ${field.offset}`
  const type = field.isRecord
    ? `\`${field.type}\``
    : field.type === 'pointer'
      ? 'host address'
      : field.type
  const dims = field.dims.map((count) => `[${count}]`).join('')
  return `${type}${dims} ${place}.`
}

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

/** @param {string} file @param {string} role @param {Shape[]} own @param {Map<string, Shape>} shapes @param {Map<string, string[]>} users @param {string} version */
function emitFile(file, role, own, shapes, users, version) {
  const emitter = new Emitter(shapes, users)
  const bodies = own.map((shape) => {
    emitter.current = shape
    return emitter.record(shape)
  })
  /** @type {Map<string, Set<string>>} */
  const imports = new Map()
  for (const use of emitter.used) {
    const [record, prefix] = use.split(' ')
    const shape = /** @type {Shape} */ (shapes.get(record))
    const from = fileOf(shape.record)
    if (from === file) continue
    const names = imports.get(from) ?? new Set()
    names.add(prefix ? `${prefix}${shape.type}` : `type ${shape.type}`)
    imports.set(from, names)
  }
  const lines = [`${banner(version)}// ${role}`, '']
  lines.push(importLine([...emitter.helpers], '../codec.js'))
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
