import type { GuestCall, Hook } from '../calling-cpu.js'
import { CALL } from '../layout.js'

/** A piece of source: text that is assembled where it is used, and the functions that it calls. */
export interface Source {
  readonly source: string
  /** @internal By the number that follows `mark` in the text. */
  readonly hooks: ReadonlyMap<number, Hook>
}

/** What `${…}` in {@link asm} takes. */
export type Interpolated =
  | number
  | bigint
  | string
  | Source
  | Uint8Array
  | readonly number[]
  | GuestCall

const NO_HOOKS: ReadonlyMap<number, Hook> = new Map()
const QUOTED_OR_LOCAL = /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|@[\w.]+/g
let marks = 0

/** A number that no other mark has. */
export const newMark = (): number => ++marks

/** Source that calls a function of the test, by way of a port. Changes no register and no flag. */
function call(hook: GuestCall): Source {
  const mark = newMark()
  const source = `mark ${mark}; ${CALL}`
  return { source, hooks: new Map([[mark, { call: hook }]]) }
}

/** Labels of a piece that begin with `@` are its own: it may be put in more than once. */
function withOwnLabels(source: string, place: number): string {
  return source.replace(QUOTED_OR_LOCAL, (text) => (text[0] === '@' ? `${text}.${place}` : text))
}

function textOf(value: Exclude<Interpolated, GuestCall>, place: number): string {
  switch (typeof value) {
    case 'bigint':
      return String(value)
    case 'number':
      if (!Number.isSafeInteger(value)) throw new RangeError(`${value} is no integer`)
      return String(value)
    case 'string':
      return value
  }
  if ('source' in value) return `\n${withOwnLabels(value.source, place)}\n`
  return value.length === 0 ? '' : `\ndb ${[...value].join(', ')}\n`
}

/**
 * Assembler source, with values put in: numbers, register names and other text, bytes, other pieces
 * of source, and functions, which are called when the code gets there. It is assembled when a guest
 * runs it, for that guest's mode.
 *
 * ```ts
 * const square = asm`mov eax, ${7}; mul eax; ${({ regs }) => expect(regs.rax).toBe(49n)}`
 * ```
 */
export function asm(strings: TemplateStringsArray, ...values: readonly Interpolated[]): Source {
  let source = strings[0]!
  let hooks = NO_HOOKS
  values.forEach((given, i) => {
    const value = typeof given === 'function' ? call(given) : given
    source += textOf(value, i) + strings[i + 1]
    if (typeof value !== 'object' || !('hooks' in value) || value.hooks.size === 0) return
    hooks = new Map([...hooks, ...value.hooks])
  })
  return { source, hooks }
}
