// Small expressions that all codecs are made of.

import { isBytes, scalarSize } from './model.mjs'

/**
 * @typedef {import('./records.mjs').Field} Field
 * @typedef {import('./model.mjs').Shape} Shape
 */

/** Index variable of each width, and the shift that makes it. */
export const indexNames = /** @type {[number, string, number][]} */ ([
  [8, 'q', 3],
  [4, 'd', 2],
  [2, 'w', 1],
])

/** Index expression for bytes at a constant distance. @param {number} offset @param {number} width */
export function place(offset, width) {
  const name = { 8: 'q', 4: 'd', 2: 'w', 1: 'offset' }[width] ?? ''
  return plus(name, offset / width)
}

/** @param {string} base @param {number} distance */
export function plus(base, distance) {
  return distance === 0 ? base : `${base} + ${distance}`
}

/** The view's array that holds a scalar. @param {Field} field */
export function arrayOf(field) {
  if (field.number) return 'u32'
  return field.type === 'pointer' ? 'u64' : field.type
}

/**
 * What a field is called in errors about what it contains: its own struct's name and no more, since
 * a path put together at run time would cost an allocation for every nested struct.
 * @param {Shape | undefined} shape @param {Field} field
 */
export function subPath(shape, field) {
  return `'${shape?.record.name}.${field.name}'`
}

/**
 * Splits gaps into words that are aligned wherever the struct is: none is wider than its alignment.
 * A large gap is one of width 0, to be filled.
 * @param {[number, number][]} gaps @param {number} align
 */
export function zeroWords(gaps, align) {
  return gaps.flatMap(([start, end]) => {
    if (end - start > 64) return [{ at: start, width: 0, end }]
    const words = []
    for (let at = start; at < end; at += words[words.length - 1].width) {
      const fits = (/** @type {number} */ size) =>
        size <= align && at % size === 0 && at + size <= end
      words.push({ at, width: [8, 4, 2].find(fits) ?? 1, end })
    }
    return words
  })
}

/** @param {{ at: number, width: number, end: number }} word */
export function zeroLine({ at, width, end }) {
  if (width === 0) return `  view.u8.fill(0, ${plus('offset', at)}, offset + ${end})`
  const array = width === 8 ? 'u64' : `u${width * 8}`
  return `  ${array}[${place(at, width)}] = ${width === 8 ? '0n' : '0'}`
}

/**
 * Local names for the arrays and indices that the reads or writes use.
 * @param {Shape} shape @param {boolean} [writing]
 */
export function locals({ plain, unions, gaps, record }, writing = false) {
  const fields = [...plain, ...unions.flatMap((union) => union.fields)]
  const scalars = fields.filter((field) => !field.isRecord && !isBytes(field))
  const arrays = new Set(scalars.map(arrayOf))
  const indices = new Set(scalars.map((field) => scalarSize(field.number ? 'u32' : field.type)))
  const blanks = writing && unions.length === 0 ? zeroWords(gaps, record.align) : []
  for (const { width } of blanks) {
    if (width === 0) continue
    arrays.add(width === 8 ? 'u64' : `u${width * 8}`)
    indices.add(width)
  }
  const lines = [...arrays].map((array) => `  const ${array} = view.${array}`)
  for (const [width, name, shift] of indexNames) {
    if (indices.has(width)) lines.push(`  const ${name} = offset >>> ${shift}`)
  }
  return lines
}
