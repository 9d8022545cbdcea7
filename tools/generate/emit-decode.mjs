// decodeX: checks the place, reads every field.

import { elementCount, isBytes, scalarSize } from './model.mjs'
import { arrayOf, locals, place, plus } from './spell.mjs'
import { doc } from './text.mjs'

/**
 * @typedef {import('./records.mjs').Field} Field
 * @typedef {import('./model.mjs').Shape} Shape
 * @typedef {import('./emit-scope.mjs').Scope} Scope
 */

/** Text of the decoders. */
export class Decoder {
  /** @param {Scope} scope */
  constructor(scope) {
    this.scope = scope
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
    lines.push(this.scope.checkPlace(shape))
    lines.push(...locals(shape))
    if (tag) lines.push(...this.#decodeTagged(shape))
    else if (unions.some((union) => union.tag)) lines.push(...this.#decodeSelected(shape))
    else lines.push(...this.#decodeAll(shape))
    lines.push('}')
    return lines.join('\n')
  }

  /** @param {Shape} shape */
  #decodeAll(shape) {
    const fields = [...shape.plain, ...shape.unions.flatMap((union) => union.fields)]
    const lines = []
    if (reuse(shape)) {
      lines.push('  if (into !== undefined) {')
      for (const field of fields) {
        lines.push(
          `    into.${field.name} = ${this.#read(field, reusable(field, this.scope.shapes) ? `into.${field.name}` : '')}`,
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
    const decode = this.scope.other(field.type, 'decode')
    const inner = this.scope.shapes.get(field.type)
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
    const field = this.scope.current?.plain.find(({ name }) => name === by)
    if (!field) throw new Error(`${this.scope.current?.record.name} has no field ${by}`)
    return this.#read(field, '')
  }

  /** @param {Field} field */
  #readScalars(field) {
    if (field.dims.length !== 1) throw new Error(`${field.name}: array of arrays`)
    const width = scalarSize(field.type)
    const count = field.dims[0]
    if (count > 16) {
      const helper = this.scope.helper(width === 8 ? 'readBigints' : 'readNumbers')
      return `${helper}(${arrayOf(field)}, ${place(field.offset, width)}, ${count})`
    }
    const items = Array.from(
      { length: count },
      (_, k) => `${arrayOf(field)}[${place(field.offset + k * width, width)}]!`,
    )
    return `[${items.join(', ')}]`
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
