// Decode and encode of the flexible array behind a struct.

import { elementType, isBigint, scalarSize } from './model.mjs'
import { plus } from './spell.mjs'
import { doc, pascal } from './text.mjs'

/**
 * @typedef {import('./records.mjs').Field} Field
 * @typedef {import('./model.mjs').Shape} Shape
 * @typedef {import('./emit-scope.mjs').Scope} Scope
 */

/** Text of the flexible arrays' codecs. */
export class TailEmitter {
  /** @param {Scope} scope @param {import('./emit-check.mjs').Checker} checker */
  constructor(scope, checker) {
    this.scope = scope
    this.checker = checker
  }

  /** Decode and encode of a flexible array. @param {Shape} shape @param {Field} tail */
  tail(shape, tail) {
    const { record, type } = shape
    const name = `${type}${pascal(tail.name)}`
    const path = `${record.name}.${tail.name}`
    const size = tail.isRecord
      ? (this.scope.shapes.get(tail.type)?.record.size ?? 0)
      : scalarSize(tail.type)
    this.scope.helper('checkCount')
    const isByte = tail.type === 'u8'
    const list = isByte ? 'Uint8Array' : `${elementType(tail)}[]`
    const start = plus('offset', tail.offset)
    return [
      [
        doc(
          `Reads \`count\` elements of \`${tail.name}\`, which follow the \`${record.name}\` at \`offset\`.`,
        ),
        `export function decode${name}(view: StructView, count: number, offset = 0): ${list} {`,
        this.scope.checkPlace(shape),
        `  checkCount(view, ${start}, count, ${size}, '${path}')`,
        ...this.#decodeTail(tail, start, size),
        '}',
      ].join('\n'),
      [
        doc(
          `Writes \`values\` as \`${tail.name}\` of the \`${record.name}\` at \`offset\`. The count beside it is not set.`,
        ),
        `export function encode${name}(view: StructView, offset: number, values: ${isByte ? list : `readonly ${list}`}): void {`,
        this.scope.checkPlace(shape),
        ...this.#encodeTail(tail, start, size, path),
        '}',
      ].join('\n'),
    ]
  }

  /** @param {Field} tail @param {string} start @param {number} size */
  #decodeTail(tail, start, size) {
    if (tail.type === 'u8') return [`  return view.u8.slice(${start}, ${start} + count)`]
    if (tail.isRecord) {
      const decode = this.scope.other(tail.type, 'decode')
      return [
        `  const out: ${pascal(tail.type)}[] = []`,
        `  for (let k = 0; k < count; k++) out.push(${decode}(view, ${start} + k * ${size}))`,
        '  return out',
      ]
    }
    const helper = this.scope.helper(isBigint(tail) ? 'readBigints' : 'readNumbers')
    return [`  return ${helper}(view.${tail.type}, (${start}) >>> ${size === 8 ? 3 : 2}, count)`]
  }

  /** @param {Field} tail @param {string} start @param {number} size @param {string} path */
  #encodeTail(tail, start, size, path) {
    if (tail.type === 'u8') {
      this.scope.helper('checkBytes')
      return [
        `  checkBytes(values, values?.length, '${path}', -1, '')`,
        `  checkCount(view, ${start}, values.length, 1, '${path}')`,
        `  view.u8.set(values, ${start})`,
      ]
    }
    this.scope.helper('checkArray')
    const lines = [
      `  checkArray(values, values?.length, '${path}', -1, '')`,
      `  checkCount(view, ${start}, values.length, ${size}, '${path}')`,
      '  for (let k = 0; k < values.length; k++) {',
    ]
    if (tail.isRecord) {
      lines.push(`    ${this.scope.other(tail.type, 'check')}(values[k]!, '${path}', k)`)
      const put = `${this.scope.other(tail.type, 'put')}(view, ${start} + k * ${size}, values[k]!)`
      return [...lines, '  }', `  for (let k = 0; k < values.length; k++) ${put}`]
    }
    lines.push(
      '    const item = values[k]!',
      this.checker.scalar(tail, 'item', `'${path}', k, ''`, '    '),
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
