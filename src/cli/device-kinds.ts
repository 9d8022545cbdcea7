// The virtio devices that `node-kvm run` can make. To add one: its keys here, and a line of help.

import { type VirtioDevice, VirtioRng } from '../devices/index.js'
import type { Reader } from './config-readers.js'
import { diskKind } from './disk-kind.js'
import { balloonKind, consoleKind, vsockKind } from './guest-kinds.js'
import { netKind } from './net-kind.js'

/** A kind of device as configuration files and the command line know it. */
export interface DeviceKind {
  /** Its keys, beside those that every device has. */
  readonly keys: Readonly<Record<string, Reader<unknown>>>
  /** Those of the keys that must be there. */
  readonly required: readonly string[]
  /** The key of what stands alone, without a key, in `--device kind,VALUE`. */
  readonly main?: string
  /** What stands in the help, and how it goes on. */
  readonly usage: readonly [synopsis: string, text: string]
  /** Makes one; opens files. */
  create(options: Readonly<Record<string, unknown>>): VirtioDevice | Promise<VirtioDevice>
}

/** By name. */
export const DEVICE_KINDS: Readonly<Record<string, DeviceKind>> = {
  rng: {
    keys: {},
    required: [],
    usage: ['rng', 'random numbers of this host'],
    create: () => new VirtioRng(),
  },
  balloon: balloonKind,
  console: consoleKind,
  vsock: vsockKind,
  disk: diskKind,
  net: netKind,
}
