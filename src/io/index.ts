// Back ends of devices on files of the host.

export { type DatagramAddress, DatagramBackend } from './datagram-backend.js'
export { type StreamAddress, StreamBackend } from './stream-backend.js'
export { Tap, type TapOptions, TUN_F } from './tap.js'
export { TapNet, type TapNetOptions } from './tap-net.js'
