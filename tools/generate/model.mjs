// What the codecs need to know of a record beyond its layout: which fields are visible, how each is
// typed in TypeScript, which bytes are padding, and how its unions are chosen.

import { discriminators } from './facts.mjs'
import { pascal } from './text.mjs'

/**
 * @typedef {import('./records.mjs').Field} Field
 * @typedef {import('./records.mjs').Record} Record
 * @typedef {{ by: string, cases: { values: number[], names: string[], members: string[] }[] }} Tag
 *
 * @typedef {object} Shape A record as the emitters see it.
 * @property {Record} record
 * @property {string} type TypeScript name.
 * @property {Field[]} plain Visible fields outside unions, in order of offset.
 * @property {{ fields: Field[], tag: Tag | undefined, offset: number, size: number }[]} unions
 *   Choices among visible fields: anonymous unions, or the whole record if it is a union.
 * @property {Field | undefined} tail Flexible array.
 * @property {Tag | undefined} tag Of a named union: what its holder selects it by.
 * @property {[number, number][]} gaps Start and end of bytes that no visible field covers.
 */

const scalarSizes = { u8: 1, i8: 1, u16: 2, i16: 2, u32: 4, i32: 4, u64: 8, i64: 8, pointer: 8 }

/** Bytes of one scalar. @param {string} type */
export function scalarSize(type) {
  return scalarSizes[/** @type {'u8'} */ (type)]
}

/** Whether a field is an array of bytes. @param {Field} field */
export function isBytes(field) {
  return field.type === 'u8' && !field.isRecord && field.dims.length > 0
}

/** @param {Field} field */
export function elementCount(field) {
  return field.dims.reduce((product, count) => product * count, 1)
}

/** TypeScript type of a field. @param {Field} field */
export function fieldType(field) {
  if (isBytes(field)) return `Uint8Array${'[]'.repeat(field.dims.length - 1)}`
  return elementType(field) + '[]'.repeat(field.dims.length)
}

/** TypeScript type of a field's element. @param {Field} field */
export function elementType(field) {
  if (field.isRecord) return pascal(field.type)
  return isBigint(field) ? 'bigint' : 'number'
}

/** @param {Field} field */
export function isBigint(field) {
  return !field.isRecord && !field.number && scalarSize(field.type) === 8
}

/** @param {string} path @param {Record} record @param {Map<string, any>} constants @param {any[]} exits @returns {Tag | undefined} */
function readTag(path, record, constants, exits) {
  const found = path === 'kvm_run' ? exitTag(exits) : discriminators[path]
  if (!found) return undefined
  /** @type {Map<string, { values: number[], names: string[], members: string[] }>} */
  const cases = new Map()
  for (const [name, members] of Object.entries(found.members)) {
    const value = constants.get(name)
    if (typeof value !== 'number') throw new Error(`${path}: ${name} is no constant`)
    for (const member of members) {
      if (!record.fields.some((field) => field.name === member)) {
        throw new Error(`${path} has no member ${member}`)
      }
    }
    const key = members.join(' ')
    const entry = cases.get(key) ?? { values: [], names: [], members }
    entry.values.push(value)
    entry.names.push(name)
    cases.set(key, entry)
  }
  return { by: found.by, cases: [...cases.values()] }
}

/** The member of kvm_run that each exit reason fills. @param {any[]} exits */
function exitTag(exits) {
  const filled = exits.filter((exit) => exit.x86 && exit.member)
  return {
    by: 'exit_reason',
    members: Object.fromEntries(
      filled.map((exit) => [
        exit.name,
        [exit.member, ...(exit.overlay ? [exit.overlay.member] : [])],
      ]),
    ),
  }
}

/** @param {Field[]} fields @param {number} size @returns {[number, number][]} */
function findGaps(fields, size) {
  const covered = new Uint8Array(size)
  for (const field of fields) covered.fill(1, field.offset, field.offset + field.size)
  /** @type {[number, number][]} */
  const gaps = []
  for (let at = 0; at < size; at++) {
    if (covered[at]) continue
    const last = gaps[gaps.length - 1]
    if (last && last[1] === at) last[1] = at + 1
    else gaps.push([at, at + 1])
  }
  return gaps
}

/** @param {Record} record @param {Map<string, any>} constants @param {any[]} exits @returns {Shape} */
function shapeOf(record, constants, exits) {
  const visible = record.fields.filter((field) => !field.padding && !field.flexible)
  const tag = readTag(record.name, record, constants, exits)
  const groups =
    record.kind === 'union'
      ? [visible]
      : [...new Set(visible.map((field) => field.group))]
          .filter((group) => group !== undefined)
          .map((group) => visible.filter((field) => field.group === group))
  // A choice of one is no choice.
  const choices = groups.filter((fields) => fields.length > 1 || (record.kind === 'union' && tag))
  const chosen = new Set(choices.flat())
  const extents = choices.map((fields) => {
    const offset = fields[0].offset
    const all =
      record.kind === 'union'
        ? record.fields
        : record.fields.filter((f) => f.group === fields[0].group)
    const size = Math.max(...all.map((field) => field.size))
    return { fields, tag: record.kind === 'union' ? undefined : tag, offset, size }
  })
  return {
    record,
    type: pascal(record.name),
    plain: visible.filter((field) => !chosen.has(field)),
    unions: extents,
    tail: record.fields.find((field) => field.flexible),
    tag: record.kind === 'union' ? tag : undefined,
    // A union is zeroed whole before its member is written.
    gaps: choices.length > 0 && record.kind === 'union' ? [] : findGaps(visible, record.size),
  }
}

/**
 * @param {Record[]} records @param {{ name: string, value: any }[]} constants
 * @param {any[]} exits reference/kvm-exits.json's `exits`
 * @returns {Map<string, Shape>}
 */
export function readShapes(records, constants, exits) {
  const values = new Map(constants.map(({ name, value }) => [name, value]))
  return new Map(records.map((record) => [record.name, shapeOf(record, values, exits)]))
}

/** Fields of a union, widest first. @param {Field[]} fields */
export function bySize(fields) {
  return [...fields].sort((a, b) => b.size - a.size)
}
