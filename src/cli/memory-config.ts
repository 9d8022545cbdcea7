// `memoryOptions` in a configuration file: how the machine's RAM is allocated.

import {
  checkedOptions,
  type FileBacking,
  type MemoryOptions,
  type NumaPolicy,
} from '../core/memory/memory-options.js'
import {
  boolean,
  checked,
  integer,
  listOf,
  objectOf,
  oneOf,
  path,
  type Reader,
  shape,
  wrong,
} from './config-readers.js'

const hugePages = shape({ hugePages: oneOf('2MiB', '1GiB') }, ['hugePages'])
const fileBacking = shape<FileBacking>(
  { file: path, offset: integer, mode: oneOf('shared', 'private') },
  ['file', 'mode'],
)

const backing: Reader<MemoryOptions['backing']> = (located, key, file) => {
  if (!(located.value instanceof Map)) return oneOf('memfd', 'anonymous')(located, key, file)
  const object = objectOf(located, key, file)
  if (object.has('hugePages')) return hugePages(located, key, file) as { hugePages: '2MiB' }
  if (object.has('file')) return fileBacking(located, key, file)
  throw wrong(located, key, file, 'must have one of the keys file, hugePages')
}

const mlock: Reader<MemoryOptions['mlock']> = (located, key, file) => {
  if (typeof located.value === 'boolean' || located.value === 'onfault') return located.value
  throw wrong(located, key, file, 'must be true, false or onfault')
}

const keys = shape<MemoryOptions>(
  {
    backing,
    prefault: boolean,
    mlock,
    thp: oneOf('madvise', 'never', 'collapse'),
    mergeable: boolean,
    dontFork: boolean,
    dontDump: boolean,
    numa: shape<NumaPolicy>(
      { mode: oneOf('bind', 'preferred', 'interleave'), nodes: listOf(integer) },
      ['mode', 'nodes'],
    ),
  },
  [],
)

/** Reads {@link MemoryOptions}. */
export const memoryOptions = checked(keys, checkedOptions)
