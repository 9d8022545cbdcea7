// Devices as a configuration file or the command line describes them: `{ "type": "rng", "slot": 3 }`, or
// `--device rng,slot=3`.

import type { MachineDevice } from '../machine/virtio-devices.js'
import { boolean, integer, objectOf, oneOf, type Reader, shape, wrong } from './config-readers.js'
import { DEVICE_KINDS } from './device-kinds.js'
import type { Located } from './located-json.js'

/** One device, checked, not made yet. */
export interface DeviceSpec {
  readonly type: string
  /** Where it is in the machine. */
  readonly place: Omit<MachineDevice, 'device'>
  /** What its kind takes. */
  readonly options: Readonly<Record<string, unknown>>
}

const PLACE = {
  transport: oneOf('pci', 'mmio'),
  slot: integer,
  packed: boolean,
  inOrder: boolean,
}

/** A device of a configuration file. */
export const device: Reader<DeviceSpec> = (located, key, file) => {
  const object = objectOf(located, key, file)
  const type = object.get('type')?.value
  const names = Object.keys(DEVICE_KINDS)
  const kind = names.includes(type as string) ? DEVICE_KINDS[type as string] : undefined
  if (kind === undefined) {
    const place = object.get('type') ?? located
    throw wrong(place, `${key}.type`, file, `must be one of ${names.join(', ')}`)
  }
  const keys = { type: oneOf(type as string), ...PLACE, ...kind.keys }
  const all = shape<Record<string, unknown>>(keys, kind.required)(located, key, file)
  const isPlace = ([name]: [string, unknown]) => Object.hasOwn(PLACE, name)
  const isOption = ([name]: [string, unknown]) => Object.hasOwn(kind.keys, name)
  return {
    type: type as string,
    place: Object.fromEntries(Object.entries(all).filter(isPlace)),
    options: Object.fromEntries(Object.entries(all).filter(isOption)),
  }
}

/**
 * A device of the command line: `rng`, `disk,IMAGE,readonly,slot=3`. A key alone is true; what is no key of
 * the kind and has none is the value of its main key.
 *
 * @throws FileError for what is wrong in it
 */
export function deviceArgument(text: string): DeviceSpec {
  const [type = '', ...rest] = text.split(',')
  const object = new Map<string, Located>([['type', { line: 0, value: type }]])
  const kind = Object.hasOwn(DEVICE_KINDS, type) ? DEVICE_KINDS[type] : undefined
  rest.forEach((part, i) => {
    const equals = part.indexOf('=')
    const isMain = i === 0 && equals < 0 && kind?.main !== undefined
    const name = isMain ? kind.main! : equals < 0 ? part : part.slice(0, equals)
    const value = isMain ? part : equals < 0 ? true : argumentValue(part.slice(equals + 1))
    object.set(name, { line: 0, value })
  })
  return device({ line: 0, value: object }, type, '--device')
}

function argumentValue(text: string): string | number | boolean {
  if (/^\d+$/.test(text)) return Number(text)
  return text === 'true' || text === 'false' ? text === 'true' : text
}

/** Makes all of them, or none. */
export async function createDevices(specs: readonly DeviceSpec[] = []): Promise<MachineDevice[]> {
  const made: MachineDevice[] = []
  try {
    for (const { type, place, options } of specs) {
      made.push({ ...place, device: await DEVICE_KINDS[type]!.create(options) })
    }
    return made
  } catch (error) {
    for (const { device } of made) await device.close()
    throw error
  }
}

/** What the help says of kinds of devices. */
export function deviceUsage(): string {
  return Object.values(DEVICE_KINDS)
    .map(
      ({ usage: [synopsis, text] }) => `                          ${synopsis.padEnd(16)} ${text}`,
    )
    .join('\n')
}
