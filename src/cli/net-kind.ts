// Network devices on the command line and in configuration files.

import { type NetworkDeviceOptions, VirtioNet } from '../devices/index.js'
import { DatagramBackend, StreamBackend, Tap, TapNet } from '../io/index.js'
import { integer, path, string } from './config-readers.js'
import type { DeviceKind } from './device-kinds.js'

/** What a network device is plugged into, and what else it has. */
interface NetOptions {
  readonly tap?: string
  readonly passt?: string
  readonly stream?: string
  readonly dgram?: string
  readonly local?: string
  readonly mac?: string
  readonly mtu?: number
  readonly queues?: number
}

const NETWORKS = ['tap', 'passt', 'stream', 'dgram'] as const
const HOST_AND_PORT = /^(?:\[([^/]+)\]|([^/:]+)):(\d{1,5})$/

/** The kind `net`, which `--net` stands for as well. */
export const netKind: DeviceKind = {
  keys: {
    tap: string,
    passt: path,
    stream: string,
    dgram: string,
    local: string,
    mac: string,
    mtu: integer,
    queues: integer,
  },
  required: [],
  usage: ['net,tap=NAME', 'a network card, as --net makes them'],
  create: (options) => createNet(options as NetOptions),
}

async function createNet(options: NetOptions): Promise<VirtioNet | TapNet> {
  const { tap, passt, stream, dgram, local, mac, mtu, queues } = options
  const networks = NETWORKS.filter((name) => options[name] !== undefined)
  if (networks.length !== 1) throw wrong(`it takes one of ${NETWORKS.join(', ')}`)
  const settings: NetworkDeviceOptions = {
    ...(mac === undefined ? {} : { mac }),
    ...(mtu === undefined ? {} : { mtu }),
    ...(queues === undefined ? {} : { queuePairs: queues }),
  }
  if (tap !== undefined) return new TapNet(Tap.open(tap, { queues: queues ?? 1 }), settings)
  if (dgram !== undefined) {
    if (local === undefined) throw wrong('dgram=HOST:PORT takes local=HOST:PORT')
    const backend = await DatagramBackend.open(placeOf(local), placeOf(dgram))
    return new VirtioNet(backend, settings)
  }
  const isPlace = stream !== undefined && HOST_AND_PORT.test(stream)
  const address = isPlace ? placeOf(stream) : { path: (passt ?? stream)! }
  return new VirtioNet(await StreamBackend.connect(address), settings)
}

function placeOf(text: string): { host: string; port: number } {
  const [, ipv6, host, port] = HOST_AND_PORT.exec(text) ?? []
  if (port === undefined) throw wrong(`${text} is not HOST:PORT`)
  return { host: (ipv6 ?? host)!, port: Number(port) }
}

function wrong(complaint: string): TypeError {
  return Object.assign(new TypeError(`net: ${complaint}`), { code: 'ERR_KVM_CONFIG' })
}
