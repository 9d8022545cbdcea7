// Readers of what configuration files say: each takes one value out of the file, checked, or complains with
// file, line and key.

import { dirname, resolve } from 'node:path'
import { FileError, type Located, type LocatedObject } from './located-json.js'

/** Turns a value of the file into one of the machine's; `key` is for complaints. */
export type Reader<T> = (located: Located, key: string, file: string) => T

/** A text. */
export const string: Reader<string> = (located, key, file) => {
  if (typeof located.value === 'string') return located.value
  throw wrong(located, key, file, 'must be a string')
}

/** A path, which counts from the file's own folder. */
export const path: Reader<string> = (located, key, file) =>
  resolve(dirname(file), string(located, key, file))

/** An integer, or one in a string, which may be hexadecimal: JSON has no such numbers. */
export const integer: Reader<number> = (located, key, file) => {
  const { value } = located
  const number = typeof value === 'string' && /^0x[\da-f]+$/i.test(value) ? Number(value) : value
  if (Number.isSafeInteger(number) && (number as number) >= 0) return number as number
  throw wrong(located, key, file, 'must be a positive integer, such as 4096 or "0x1000"')
}

/** A text, or an integer. */
export const textOrNumber: Reader<string | number> = (located, key, file) =>
  typeof located.value === 'number' ? integer(located, key, file) : string(located, key, file)

/** What `check` finds wrong is told with its place in the file. */
export const checked =
  <T>(read: Reader<T>, check: (value: T, key: string) => void): Reader<T> =>
  (located, key, file) => {
    const value = read(located, key, file)
    try {
      check(value, key)
    } catch (error) {
      throw new FileError(file, located.line, (error as Error).message)
    }
    return value
  }

/** One of some words. */
export const oneOf =
  <T extends string>(...choices: readonly T[]): Reader<T> =>
  (located, key, file) => {
    const choice = choices.find((each) => each === located.value)
    if (choice !== undefined) return choice
    throw wrong(located, key, file, `must be one of ${choices.join(', ')}`)
  }

/** A list of what `read` reads. */
export const listOf =
  <T>(read: Reader<T>): Reader<T[]> =>
  (located, key, file) => {
    if (!Array.isArray(located.value)) throw wrong(located, key, file, 'must be a list')
    return located.value.map((item: Located, i) => read(item, `${key}[${i}]`, file))
  }

/** An object with any keys. */
export const recordOf =
  <T>(read: Reader<T>): Reader<Record<string, T>> =>
  (located, key, file) =>
    Object.fromEntries(
      [...objectOf(located, key, file)].map(([name, item]) => [
        name,
        read(item, `${key}["${name}"]`, file),
      ]),
    )

/** An object with these keys and no others; of the `required` ones, all. */
export const shape =
  <T>(readers: { [K in keyof T]-?: Reader<unknown> }, required: readonly string[]): Reader<T> =>
  (located, key, file) => {
    const object = objectOf(located, key, file)
    const path = (name: string) => (key === '' ? name : `${key}.${name}`)
    const known = readers as Record<string, Reader<unknown>>
    for (const [name, item] of object) {
      if (Object.hasOwn(known, name)) continue
      const all = Object.keys(known).join(', ')
      throw wrong(item, path(name), file, `is no key of it; there are ${all}`)
    }
    const missing = required.find((name) => !object.has(name))
    if (missing !== undefined) throw wrong(located, path(missing), file, 'is missing')
    const values = [...object].map(([name, item]) => [name, known[name]!(item, path(name), file)])
    return Object.fromEntries(values) as T
  }

/** True or false. */
export const boolean: Reader<boolean> = (located, key, file) => {
  if (typeof located.value === 'boolean') return located.value
  throw wrong(located, key, file, 'must be true or false')
}

/** The value as an object. */
export function objectOf(located: Located, key: string, file: string): LocatedObject {
  if (located.value instanceof Map) return located.value
  throw wrong(located, key, file, 'must be an object')
}

/** A complaint about a value. */
export function wrong({ line }: Located, key: string, file: string, complaint: string): FileError {
  return new FileError(file, line, `${key === '' ? 'the file' : `"${key}"`} ${complaint}`)
}
