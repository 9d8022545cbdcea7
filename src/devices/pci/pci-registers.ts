// Where things are in a function's configuration space (PCI Local Bus Specification 3.0 §6.1, type 0
// header). Offsets in bytes.

/** Bytes of a conventional function's configuration space; in ECAM all ones are behind it. */
export const PCI_CONFIG_SIZE = 256

/** Registers of the type 0 header. */
export const PCI_REGISTER = {
  vendorId: 0x00,
  deviceId: 0x02,
  command: 0x04,
  status: 0x06,
  revisionId: 0x08,
  classCode: 0x09,
  cacheLineSize: 0x0c,
  headerType: 0x0e,
  bar0: 0x10,
  subsystemVendorId: 0x2c,
  subsystemId: 0x2e,
  capabilities: 0x34,
  interruptLine: 0x3c,
  interruptPin: 0x3d,
} as const

/** Bits of the command register. */
export const PCI_COMMAND = {
  io: 0x0001,
  memory: 0x0002,
  busMaster: 0x0004,
  parityError: 0x0040,
  systemError: 0x0100,
  interruptDisable: 0x0400,
} as const

/** Bits of the status register. */
export const PCI_STATUS = { interrupt: 0x0008, capabilities: 0x0010 } as const

/** Header type: there are more functions than 0. */
export const PCI_MULTI_FUNCTION = 0x80
