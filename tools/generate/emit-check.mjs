// checkX: refuses a value before a byte of it is written.

import { bySize, elementCount, isBigint, isBytes, scalarSize } from './model.mjs'
import { arrayOf, subPath } from './spell.mjs'
import { doc } from './text.mjs'

/**
 * @typedef {import('./records.mjs').Field} Field
 * @typedef {import('./model.mjs').Shape} Shape
 * @typedef {import('./emit-scope.mjs').Scope} Scope
 */

/** Text of the checks. */
export class Checker {
  /** @param {Scope} scope */
  constructor(scope) {
    this.scope = scope
  }

  /** @param {Shape} shape */
  check(shape) {
    this.scope.helper('checkObject')
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
      this.scope.helper('checkBytes')
      lines.push(
        `  if (value.raw !== undefined) checkBytes(value.raw, ${record.size}, path, index, 'raw')`,
      )
    }
    lines.push('}')
    return lines.join('\n')
  }

  /** @param {Field[]} fields */
  #checkAgreement(fields) {
    this.scope.helper('checkAgreement')
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
    if (field.isRecord) return `${this.scope.other(field.type, 'put')}(view, 0, ${value})`
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
          `${indent}${this.scope.other(field.type, 'check')}(${value}, ${subPath(this.scope.current, field)}, -1)`,
        ]
      return [this.scalar(field, value, where, indent)]
    }
    this.scope.helper('checkArray')
    const count = elementCount(field)
    const lines = [`${indent}checkArray(${value}, ${count}, ${where})`]
    lines.push(`${indent}for (let k = 0; k < ${count}; k++) {`)
    if (field.isRecord)
      lines.push(
        `${indent}  ${this.scope.other(field.type, 'check')}(${value}[k]!, ${subPath(this.scope.current, field)}, k)`,
      )
    else {
      lines.push(`${indent}  const item = ${value}[k]!`)
      lines.push(
        this.scalar(field, 'item', `${subPath(this.scope.current, field)}, k, ''`, `${indent}  `),
      )
    }
    lines.push(`${indent}}`)
    return lines
  }

  /** @param {Field} field @param {string} indent */
  #checkByteField(field, indent) {
    this.scope.helper('checkBytes')
    const length = field.dims[field.dims.length - 1]
    if (field.dims.length === 1) {
      return [`${indent}checkBytes(value.${field.name}, ${length}, path, index, '${field.name}')`]
    }
    this.scope.helper('checkArray')
    return [
      `${indent}checkArray(value.${field.name}, ${field.dims[0]}, path, index, '${field.name}')`,
      `${indent}for (let k = 0; k < ${field.dims[0]}; k++) {`,
      `${indent}  checkBytes(value.${field.name}[k], ${length}, ${subPath(this.scope.current, field)}, k, '')`,
      `${indent}}`,
    ]
  }

  /** @param {Field} field @param {string} value @param {string} where @param {string} indent */
  scalar(field, value, where, indent) {
    if (isBigint(field)) {
      const signed = field.type === 'i64'
      // Inline: a call for each of kvm_regs' 18 fields exceeds what V8 inlines into one function.
      const wrapped = `BigInt.${signed ? 'asIntN' : 'asUintN'}(64, ${value})`
      const bad = `${this.scope.helper('badBigint')}(${where}, ${value}, ${signed})`
      return `${indent}if (typeof ${value} !== 'bigint' || ${wrapped} !== ${value}) ${bad}`
    }
    const [min, max] = numberRange(field)
    const bad = `${this.scope.helper('badNumber')}(${where}, ${value}, ${min}, ${max})`
    if (field.number) return `${indent}if (!${this.scope.helper('isSize')}(${value})) ${bad}`
    const narrowed = narrow(field, value)
    // Without the typeof, a bigint or a symbol would end in an error that names no field.
    return `${indent}if (typeof ${value} !== 'number' || ${narrowed} !== ${value}) ${bad}`
  }
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
