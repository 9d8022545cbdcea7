// The configuration file of `node-kvm run`: a machine's options as JSON, checked key by key.

import { readFileSync } from 'node:fs'
import { integer as checkInteger } from '../core/validate.js'
import type { MachineBoot } from '../machine/boot.js'
import type { MachineOptions } from '../machine/machine.js'
import { memorySize } from '../machine/memory-size.js'
import type { DevicePlaces } from '../machine/native-devices.js'
import { CPU_MODELS } from '../x86/index.js'
import {
  boolean,
  checked,
  integer,
  listOf,
  objectOf,
  oneOf,
  path,
  type Reader,
  recordOf,
  shape,
  string,
  textOrNumber,
  wrong,
} from './config-readers.js'
import { type DeviceSpec, device } from './device-specs.js'
import { parseLocated } from './located-json.js'
import { memoryOptions } from './memory-config.js'

/** What a file may say. Paths in it count from its own folder. */
export interface MachineConfig extends Omit<Partial<MachineOptions>, 'devices' | 'onProgress'> {
  /** Files for `machine.fwCfg`: a text, or a number as 8 bytes. */
  fwCfg?: Readonly<Record<string, string | number>>
  /** virtio devices, in the order of their PCI slots. */
  devices?: DeviceSpec[]
}

/**
 * Reads a configuration file.
 *
 * @throws FileError with line and key for what is wrong in it; Node's errors when it cannot be read
 */
export function readConfig(file: string): MachineConfig {
  const text = readFileSync(file, 'utf8')
  return config(parseLocated(file, text), '', file)
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
    threadsPerCore: checked(integer, (value, key) => checkInteger(value, key, 1, 256)),
    coresPerSocket: checked(integer, (value, key) => checkInteger(value, key, 1, 4096)),
    cpuModel: oneOf(...CPU_MODELS),
    cpuFeatures: recordOf(boolean),
    memory: checked(textOrNumber, memorySize),
    memoryOptions,
    boot,
    onReset: oneOf('end', 'restart'),
    devicePlaces: shape<DevicePlaces>(
      {
        serial: place,
        debugConsole: place,
        pmTimer: place,
        acpiPm: place,
        pciConfig: place,
        rtc: place,
        postCode: place,
      },
      [],
    ),
    holdSerialInput: boolean,
    devices: listOf(device),
    fwCfg: recordOf(textOrNumber),
  },
  [],
)
