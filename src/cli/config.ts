// The configuration file of `node-kvm run`: a machine's options as JSON, checked key by key.

import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { integer as checkInteger } from '../core/validate.js'
import type { MachineBoot } from '../machine/boot.js'
import type { MachineOptions } from '../machine/machine.js'
import { memorySize } from '../machine/memory-size.js'
import type { DevicePlaces } from '../machine/native-devices.js'
import { FileError, type Located, type LocatedObject, parseLocated } from './located-json.js'

/** What a file may say. Paths in it count from its own folder. */
export interface MachineConfig extends Omit<Partial<MachineOptions>, 'devices'> {
  /** Files for `machine.fwCfg`: a text, or a number as 8 bytes. */
  fwCfg?: Readonly<Record<string, string | number>>
}

/** Turns a value of the file into one of the machine's; `key` is for complaints. */
type Reader<T> = (located: Located, key: string, file: string) => T

/**
 * Reads a configuration file.
 *
 * @throws FileError with line and key for what is wrong in it; Node's errors when it cannot be read
 */
export function readConfig(file: string): MachineConfig {
  const text = readFileSync(file, 'utf8')
  return config(parseLocated(file, text), '', file)
}

const string: Reader<string> = (located, key, file) => {
  if (typeof located.value === 'string') return located.value
  throw wrong(located, key, file, 'must be a string')
}

const path: Reader<string> = (located, key, file) =>
  resolve(dirname(file), string(located, key, file))

/** An integer, or one in a string, which may be hexadecimal: JSON has no such numbers. */
const integer: Reader<number> = (located, key, file) => {
  const { value } = located
  const number = typeof value === 'string' && /^0x[\da-f]+$/i.test(value) ? Number(value) : value
  if (Number.isSafeInteger(number) && (number as number) >= 0) return number as number
  throw wrong(located, key, file, 'must be a positive integer, such as 4096 or "0x1000"')
}

const textOrNumber: Reader<string | number> = (located, key, file) =>
  typeof located.value === 'number' ? integer(located, key, file) : string(located, key, file)

/** What `check` finds wrong is told with its place in the file. */
const checked =
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

const oneOf =
  <T extends string>(...choices: readonly T[]): Reader<T> =>
  (located, key, file) => {
    const choice = choices.find((each) => each === located.value)
    if (choice !== undefined) return choice
    throw wrong(located, key, file, `must be one of ${choices.join(', ')}`)
  }

const listOf =
  <T>(read: Reader<T>): Reader<T[]> =>
  (located, key, file) => {
    if (!Array.isArray(located.value)) throw wrong(located, key, file, 'must be a list')
    return located.value.map((item: Located, i) => read(item, `${key}[${i}]`, file))
  }

const recordOf =
  <T>(read: Reader<T>): Reader<Record<string, T>> =>
  (located, key, file) =>
    Object.fromEntries(
      [...objectOf(located, key, file)].map(([name, item]) => [
        name,
        read(item, `${key}["${name}"]`, file),
      ]),
    )

/** An object with these keys and no others; of the `required` ones, all. */
const shape =
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

const modules = listOf(shape({ image: path, cmdline: string }, ['image']))
const boots: Readonly<Record<string, Reader<unknown>>> = {
  kernel: shape(
    {
      kernel: path,
      initrd: path,
      cmdline: string,
      modules,
      protocol: oneOf('auto', 'linux64', 'pvh', 'multiboot'),
    },
    ['kernel'],
  ),
  flat: shape(
    {
      flat: path,
      gpa: integer,
      mode: oneOf('real', 'protected', 'long'),
      entry: integer,
      stackPointer: integer,
    },
    ['flat', 'gpa', 'mode'],
  ),
  firmware: shape({ firmware: path }, ['firmware']),
}

const boot: Reader<MachineBoot> = (located, key, file) => {
  const object = objectOf(located, key, file)
  const kinds = Object.keys(boots).filter((kind) => object.has(kind))
  if (kinds.length !== 1) {
    throw wrong(located, key, file, `must have one of the keys ${Object.keys(boots).join(', ')}`)
  }
  return boots[kinds[0]!]!(located, key, file) as MachineBoot
}

const place = oneOf('vcpu', 'js')

const config = shape<MachineConfig>(
  {
    cpus: checked(integer, (value, key) => checkInteger(value, key, 1, 4096)),
    memory: checked(textOrNumber, memorySize),
    boot,
    onReset: oneOf('end', 'restart'),
    holdSerialInput: (located, key, file) => {
      if (typeof located.value === 'boolean') return located.value
      throw wrong(located, key, file, 'must be true or false')
    },
    devicePlaces: shape<DevicePlaces>(
      { serial: place, debugConsole: place, pmTimer: place, pciConfig: place, postCode: place },
      [],
    ),
    fwCfg: recordOf(textOrNumber),
  },
  [],
)

function objectOf(located: Located, key: string, file: string): LocatedObject {
  if (located.value instanceof Map) return located.value
  throw wrong(located, key, file, 'must be an object')
}

function wrong({ line }: Located, key: string, file: string, complaint: string): FileError {
  return new FileError(file, line, `${key === '' ? 'the file' : `"${key}"`} ${complaint}`)
}
