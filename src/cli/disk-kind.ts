// Disks as a configuration file or the command line describes them: `--device disk,IMAGE,readOnly`.

import { VirtioDisk, type VirtioDiskOptions } from '../io/virtio-disk.js'
import { boolean, integer, oneOf, path, string } from './config-readers.js'
import type { DeviceKind } from './device-kinds.js'

/** What a configuration says of a disk. */
interface DiskOptions extends VirtioDiskOptions {
  readonly file: string
  /** `none` is past the host's cache, `unsafe` forgets flushes. */
  readonly cache?: 'writeback' | 'writethrough' | 'none' | 'unsafe'
  readonly bytesPerSecond?: number
  readonly operationsPerSecond?: number
}

function createDisk({ file, cache, bytesPerSecond, operationsPerSecond, ...rest }: DiskOptions) {
  return VirtioDisk.open(file, {
    ...rest,
    direct: cache === 'none',
    ignoreFlush: cache === 'unsafe',
    writeCache: cache === 'writethrough' ? 'writethrough' : 'writeback',
    limit: {
      ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
      ...(operationsPerSecond === undefined ? {} : { operationsPerSecond }),
    },
  })
}

/** `disk`. */
export const diskKind: DeviceKind = {
  keys: {
    file: path,
    readOnly: boolean,
    cache: oneOf('writeback', 'writethrough', 'none', 'unsafe'),
    queues: integer,
    queueSize: integer,
    serial: string,
    logicalBlock: integer,
    physicalBlock: integer,
    alignmentOffset: integer,
    minimumIo: integer,
    optimalIo: integer,
    bytesPerSecond: integer,
    operationsPerSecond: integer,
  },
  required: ['file'],
  main: 'file',
  usage: ['disk,FILE', 'an image or a block device (readOnly, cache=none, …)'],
  create: (options) => createDisk(options as unknown as DiskOptions),
}
