// putX writes a checked value; encodeX checks and puts, so a refused value leaves no half-written
// struct behind, which matters on the shared kvm_run page.

import { hotStructs } from './facts.mjs'
import { bySize, elementCount, isBytes, scalarSize } from './model.mjs'
import { arrayOf, locals, place, plus, zeroLine, zeroWords } from './spell.mjs'
import { doc } from './text.mjs'

/**
 * @typedef {import('./records.mjs').Field} Field
 * @typedef {import('./model.mjs').Shape} Shape
 * @typedef {import('./emit-scope.mjs').Scope} Scope
 */

/** Text of the encoders. */
export class Encoder {
  /** @param {Scope} scope @param {import('./emit-check.mjs').Checker} checker */
  constructor(scope, checker) {
    this.scope = scope
    this.checker = checker
  }

  /** @param {Shape} shape */
  put(shape) {
    const { type, record, plain, unions, gaps, tag } = shape
    const lines = [
      doc(`Writes a checked \`${record.name}\`.`),
      `export function put${type}(view: StructView, offset: number, value: ${type}): void {`,
      ...locals(shape, true),
      ...(unions.length > 0 ? zeroUnions(shape) : zeroWords(gaps, record.align).map(zeroLine)),
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
      const put = this.scope.other(field.type, 'put')
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
      this.scope.checkPlace(shape),
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
        this.checker.scalar(field, field.name, `'${record.name}', -1, '${field.name}'`, '  '),
      ),
      ...locals(shape, true),
      ...plain.map(
        (field) =>
          `  ${arrayOf(field)}[${place(field.offset, scalarSize(field.type))}] = ${field.name}`,
      ),
    ]
  }
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
