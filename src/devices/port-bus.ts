// The 64 Ki I/O ports of x86. One table lookup finds the device, whatever the number of devices.

import { Bus, type BusRange } from './bus.js'

const PORTS = 0x1_0000

/**
 * I/O port space. Ports without a device read as all ones, so a guest that probes for something
 * absent (PCI configuration at 0xCF8, a second serial port) finds nothing.
 */
export class PortBus extends Bus {
  // Index into #claims; 0 means free. Two bytes a port instead of a pointer: 128 KiB, not 512.
  readonly #index = new Uint16Array(PORTS)
  readonly #claims: (BusRange | undefined)[] = [undefined]

  constructor() {
    super('port bus', PORTS)
  }

  override find(port: number): BusRange | undefined {
    return port < PORTS ? this.#claims[this.#index[port]!] : undefined
  }

  protected override onAdded(range: BusRange): void {
    const free = this.#claims.indexOf(undefined, 1)
    const claim = free === -1 ? this.#claims.length : free
    this.#claims[claim] = range
    this.#index.fill(claim, range.base, range.end)
  }

  protected override onRemoved(range: BusRange): void {
    this.#claims[this.#claims.indexOf(range)] = undefined
    this.#index.fill(0, range.base, range.end)
  }
}
