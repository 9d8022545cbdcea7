// Disks beside QEMU's, on the same image, by io_uring on both sides.

import type { Benchmark } from './benchmark.js'
import { compareWithQemu } from './peers.js'

/** Requests of a Linux guest. */
export const benchmark: Benchmark = ({ effort }) =>
  compareWithQemu(
    {
      device: 'block',
      source: 'disk-load.c',
      modules: ['virtio_pci', 'virtio_blk'],
      tests: {
        'read-128k-32': 'reads of 128 KiB in a row, 32 at once',
        'write-128k-32': 'writes of 128 KiB in a row, 32 at once',
        'read-4k-1': 'reads of 4 KiB anywhere, one at a time',
        'read-4k-32': 'reads of 4 KiB anywhere, 32 at once',
        'write-4k-1': 'writes of 4 KiB anywhere, one at a time',
        'write-4k-32': 'writes of 4 KiB anywhere, 32 at once',
      },
    },
    effort,
  )
