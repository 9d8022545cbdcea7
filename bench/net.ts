// Network devices on a TAP beside QEMU's (without vhost): Debian's kernel and driver, checksums and
// segmentation left to the other side on both.

import type { Benchmark } from './benchmark.js'
import { compareWithQemu } from './peers.js'

const SCRIPT = `
ip addr add 10.9.0.2/24 dev eth0
ip link set eth0 up
`

/** Streams and datagrams of a Linux guest. */
export const benchmark: Benchmark = ({ effort }) =>
  compareWithQemu(
    {
      device: 'net',
      source: 'net-load.c',
      script: (milliseconds) => `${SCRIPT}exec /bin/load guest 10.9.0.1 ${milliseconds}\n`,
      modules: ['virtio_pci', 'virtio_net'],
      tests: {
        'tcp-out': '64 KiB of TCP from the guest',
        'tcp-in': '64 KiB of TCP to the guest',
        'udp-out': 'a frame of 60 bytes from the guest',
        'udp-in': 'a frame of 60 bytes to the guest',
        'udp-echo': 'a frame there and one back, one at a time',
      },
    },
    effort,
  )
