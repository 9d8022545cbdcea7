/** A piece of source: text that is assembled where it is used. */
export interface Source {
  readonly source: string
}

/** What `${…}` in {@link asm} takes. */
export type Interpolated = number | bigint | string | Source | Uint8Array | readonly number[]

function textOf(value: Interpolated): string {
  switch (typeof value) {
    case 'bigint':
      return String(value)
    case 'number':
      if (!Number.isSafeInteger(value)) throw new RangeError(`${value} is no integer`)
      return String(value)
    case 'string':
      return value
  }
  if ('source' in value) return `\n${value.source}\n`
  return value.length === 0 ? '' : `\ndb ${[...value].join(', ')}\n`
}

/**
 * Assembler source, with values put in: numbers, register names and other text, bytes, and other
 * pieces of source. It is assembled when a guest runs it, for that guest's mode.
 *
 * ```ts
 * const square = asm`mov eax, ${7}; mul eax`
 * ```
 */
export function asm(strings: TemplateStringsArray, ...values: readonly Interpolated[]): Source {
  const source = strings.reduce((text, string, i) => text + textOf(values[i - 1]!) + string)
  return { source }
}
