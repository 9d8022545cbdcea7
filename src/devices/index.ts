// Devices of a PC, as pure classes: a bus calls them, and they see interrupt lines, streams and
// clocks only through small interfaces. Nothing here loads the addon.

export { Bus, type BusRange, type UnclaimedAccess } from './bus.js'
export type { BusDevice } from './bus-device.js'
export { ByteInput } from './byte-input.js'
export { ByteOutput, type ByteOutputOptions } from './byte-output.js'
export {
  type AccessDirection,
  BusOverlapError,
  type BusPlace,
  type DeviceAccess,
  DeviceError,
} from './errors.js'
export { handleIo, handleMmio } from './handle-exit.js'
export { type InterruptLine, pulse, unconnectedLine } from './interrupt-line.js'
export { MmioBus } from './mmio-bus.js'
export { PortBus } from './port-bus.js'
export {
  type ModemInputs,
  SERIAL_PORTS,
  Serial16550,
  type Serial16550Options,
} from './serial-16550.js'
