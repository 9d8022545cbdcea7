// Constants and requests: evaluated by the compiler, joined with the reference facts.

import { foreignRequests, isBigintFamily, isForeign, notConstants, requestFacts } from './facts.mjs'

/**
 * @typedef {{ name: string, header: string, value: number | bigint | string, bits: number }} Constant
 * @typedef {object} Request
 * @property {string} name
 * @property {number} request
 * @property {number} size Bytes of the argument's fixed part; 0 for a value or none.
 * @property {'none' | 'value' | 'pointer'} argument
 * @property {string[]} scopes
 * @property {string | undefined} struct
 * @property {{ countOffset: number, countSize: number, elementSize: number, max: number } | undefined} flex
 * @property {string[]} flags
 * @property {any} fact
 */

const requestPattern = /\b_IO(R|W|WR)?\(KVMIO/

/**
 * @param {import('./compiler.mjs').Compiler} compiler
 * @param {{ name: string, header: string, text: string }[]} macros
 * @param {{ name: string, header: string }[]} enumerators
 * @returns {Constant[]}
 */
export function readConstants(compiler, macros, enumerators) {
  const enumNames = new Set(enumerators.map(({ name }) => name))
  const wanted = [
    ...macros.filter(({ name, text }) => !requestPattern.test(text) && !enumNames.has(name)),
    ...enumerators,
  ].filter(({ name }) => !isForeign(name) && !notConstants.has(name))
  const values = compiler.evaluate(wanted.map(({ name }) => name))
  return wanted.flatMap(({ name, header }) => {
    const answer = values.get(name)
    if (!answer) return []
    return [{ name, header, value: toJs(name, answer), bits: answer.bits }]
  })
}

/** @param {string} name @param {{ value: bigint | string, bits: number }} answer */
function toJs(name, { value, bits }) {
  if (typeof value === 'string') return value
  if (bits === 64 && isBigintFamily(name)) return value
  const limit = BigInt(Number.MAX_SAFE_INTEGER)
  return value > limit || value < -limit ? value : Number(value)
}

/**
 * @param {import('./compiler.mjs').Compiler} compiler
 * @param {{ name: string, text: string }[]} macros
 * @param {import('./records.mjs').Record[]} records
 * @param {any[]} facts reference/kvm-ioctls.json
 * @returns {Request[]}
 */
export function readRequests(compiler, macros, records, facts) {
  const byName = new Map(facts.map((fact) => [fact.name, fact]))
  const wanted = macros.filter(
    ({ name, text }) => requestPattern.test(text) && !isForeign(name) && !foreignRequests.has(name),
  )
  const values = compiler.evaluate(wanted.map(({ name }) => name))
  const requests = wanted.map(({ name, text }) => {
    const fact = byName.get(name)
    const answer = values.get(name)
    if (!answer) throw new Error(`${name} does not evaluate`)
    if (!fact) throw new Error(`${name} is in the headers but not in reference/kvm-ioctls.json`)
    return joinRequest(name, Number(answer.value), text, fact, records)
  })
  const numbers = new Set(requests.map(({ request }) => request))
  if (numbers.size !== requests.length) throw new Error('two requests share a number')
  return requests.sort((a, b) => (a.request % 256) - (b.request % 256) || a.request - b.request)
}

/** @param {string} name @param {number} request @param {string} text @param {any} fact @param {import('./records.mjs').Record[]} records */
function joinRequest(name, request, text, fact, records) {
  const own = requestFacts[name] ?? {}
  const struct = own.struct ?? /,\s*struct (\w+)\)/.exec(text)?.[1]
  const record = records.find((candidate) => candidate.name === struct)
  if (struct && !record) throw new Error(`${name}: unknown struct ${struct}`)
  const argument = fact.arg.startsWith('value')
    ? 'value'
    : fact.arg === 'pointer'
      ? 'pointer'
      : 'none'
  const carries = fact.pointers.length + fact.fds.length > 0
  return {
    name,
    request,
    size: own.bytes ?? record?.size ?? (request >>> 16) % 0x4000,
    argument: /** @type {'none' | 'value' | 'pointer'} */ (argument),
    scopes: fact.scopes,
    struct,
    flex: record && flexOf(name, record, records, fact),
    flags: own.flags ?? (carries ? ['HAS_POINTERS'] : []),
    fact,
  }
}

/** @param {string} name @param {import('./records.mjs').Record} record @param {import('./records.mjs').Record[]} records @param {any} fact */
function flexOf(name, record, records, fact) {
  const tail = record.fields.find((field) => field.flexible)
  if (!tail || !fact.flexArray || requestFacts[name]?.flags?.includes('SIZE_XSAVE2'))
    return undefined
  const countName = fact.flexArray.countField.split(' ')[0]
  const count = record.fields.find((field) => field.name === countName)
  if (!count) return undefined
  const widths = { u8: 1, u32: 4, u64: 8 }
  const element = records.find((candidate) => candidate.name === tail.type)
  const max = fact.flexArray.maxCount
  return {
    countOffset: count.offset,
    countSize: count.size,
    elementSize: element?.size ?? widths[/** @type {'u8'} */ (tail.type)],
    max: typeof max === 'number' ? max : 0,
  }
}
