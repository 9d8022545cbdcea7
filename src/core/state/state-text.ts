// Saved states as text: JSON, with words for what JSON lacks.

import { invalidArgValue } from '../../uapi/index.js'

/** The one key of an object that stands for a bigint, in hexadecimal. */
const BIGINT = '$bigint'
/** The one key of an object that stands for bytes, in base64. */
const BYTES = '$bytes'

/**
 * A state as JSON text. A bigint becomes `{"$bigint":"1f"}` (hexadecimal, unsigned) and bytes become
 * `{"$bytes":"…"}` (base64); the rest is JSON's own.
 */
export function stringifyState(state: object): string {
  return JSON.stringify(toJson(state))
}

/**
 * The state in what {@link stringifyState} wrote.
 *
 * @throws SyntaxError for what is no JSON, `ERR_INVALID_ARG_VALUE` for a bad `$bigint` or `$bytes`.
 */
export function parseState<State extends object>(text: string): State {
  return fromJson(JSON.parse(text)) as State
}

function toJson(value: unknown): unknown {
  if (typeof value === 'bigint') return { [BIGINT]: value.toString(16) }
  if (value instanceof Uint8Array) return { [BYTES]: Buffer.from(value).toString('base64') }
  if (Array.isArray(value)) return value.map(toJson)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, toJson(part)]))
}

function fromJson(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(fromJson)
  if (value === null || typeof value !== 'object') return value
  const entries = Object.entries(value)
  const [key, content] = entries.length === 1 ? entries[0]! : []
  if (key === BIGINT) return bigintOf(content)
  if (key === BYTES) return bytesOf(content)
  return Object.fromEntries(entries.map(([name, part]) => [name, fromJson(part)]))
}

function bigintOf(content: unknown): bigint {
  if (typeof content === 'string' && /^[0-9a-f]+$/.test(content)) return BigInt(`0x${content}`)
  throw invalidArgValue('text', `has a ${BIGINT} that is no hexadecimal number`)
}

function bytesOf(content: unknown): Uint8Array {
  if (typeof content === 'string') {
    const bytes = Buffer.from(content, 'base64')
    if (bytes.toString('base64') === content) return new Uint8Array(bytes)
  }
  throw invalidArgValue('text', `has ${BYTES} that are not base64`)
}
