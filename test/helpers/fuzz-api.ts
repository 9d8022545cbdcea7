// What the fuzz test calls: the methods of every object it meets, with arguments it has met before
// or made up. Left out is what may hurt the machine instead of the library.

import { types } from 'node:util'
import * as library from '../../src/index.js'

/** Methods that check nothing on purpose, or that no test may call with anything. */
const leftOut = new Set([
  'constructor',
  'ioctl',
  'request',
  'send',
  'issue',
  'issueError',
  'sendPointers',
  'findExitHandler',
  'startedError',
  'eachPiece',
  'element',
  'parts',
  'unsafeIoctl', // documented as able to crash
  'run', // called with a time limit only, see below
  'exits', // does nothing before it is iterated
  'completeIo', // an access may want more and more
  'setScheduler', // a spinning guest with a real-time policy takes a CPU away
  'setNice',
  'setAffinity',
  'populateMemory', // takes as much memory as it is told
  'preFaultMemory',
  'then',
])

type Method = (...args: unknown[]) => unknown

/** The methods of an object of the library, by name. */
export function methodsOf(object: object): string[] {
  const names = new Set<string>()
  for (let at = object; at && at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(at))) {
      if (!leftOut.has(name) && typeof property.value === 'function') names.add(name)
    }
  }
  return [...names].sort()
}

/** Reads every property that an object of the library computes. */
export function readProperties(object: object): void {
  for (let at = object; at && at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(at))) {
      if (property.get) attempt(name, () => (object as Record<string, unknown>)[name])
    }
  }
}

const prototypes = Object.values(library as Record<string, unknown>).flatMap((value) =>
  typeof value === 'function' && value.prototype ? [value.prototype as object] : [],
)

/** Whether the library made it: an object whose methods can be called. */
export function isOfLibrary(value: unknown): value is object {
  if (typeof value !== 'object' || value === null || types.isNativeError(value)) return false
  for (let at = Object.getPrototypeOf(value); at !== null; at = Object.getPrototypeOf(at)) {
    if (prototypes.includes(at)) return true
  }
  return false
}

/** Errors that a caller can tell apart by their `code`, as all of the library's are. */
export class Untyped extends Error {
  constructor(what: string, cause: unknown) {
    super(`${what}: ${cause instanceof Error ? cause.stack : String(cause)}`, { cause })
  }
}

function checkTyped(what: string, error: unknown): void {
  const typed = types.isNativeError(error) && typeof (error as { code?: unknown }).code === 'string'
  if (!typed) throw new Untyped(what, error)
}

/** Runs `action`; an error must be a typed one. Gives what it returned, or undefined. */
export function attempt(what: string, action: () => unknown): unknown {
  try {
    const result = action()
    if (types.isPromise(result)) result.catch((error) => checkTyped(what, error))
    return result
  } catch (error) {
    if (error instanceof Untyped) throw error
    checkTyped(what, error)
    return undefined
  }
}

/** Calls the method that the number chooses. */
export function callSome(target: object, choice: number, args: readonly unknown[]): unknown {
  const names = methodsOf(target)
  if (names.length === 0) return undefined
  const name = names[choice % names.length]!
  const what = `${target.constructor.name}.${name}`
  return attempt(what, () => (target as Record<string, Method>)[name]!(...args))
}
