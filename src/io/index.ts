// Back ends of devices on files of the host.

export { Tap, type TapOptions, TUN_F } from './tap.js'
export { TapNet, type TapNetOptions } from './tap-net.js'
