// fw_cfg: how QEMU tells firmware and kernels about the machine, as numbered items and named files
// (QEMU, docs/specs/fw_cfg.rst). Read-only here.

import type { PhysicalMemory } from '../x86/physical-memory.js'
import type { BusDevice } from './bus-device.js'
import { outOfRange } from './errors.js'

/** First of the {@link FW_CFG_PORTS} ports of {@link FwCfg}. */
export const FW_CFG_PORT = 0x510

/** Selector and data (with a gap between them and the address of DMA). */
export const FW_CFG_PORTS = 12

/** Numbers of the items that have no name. All are little-endian. */
export const FW_CFG_ITEM = {
  signature: 0x00,
  id: 0x01,
  uuid: 0x02,
  ramSize: 0x03,
  noGraphic: 0x04,
  cpus: 0x05,
  kernelAddress: 0x07,
  kernelSize: 0x08,
  initrdAddress: 0x0a,
  initrdSize: 0x0b,
  bootMenu: 0x0e,
  maxCpus: 0x0f,
  kernelData: 0x11,
  initrdData: 0x12,
  cmdlineAddress: 0x13,
  cmdlineSize: 0x14,
  cmdlineData: 0x15,
  setupAddress: 0x16,
  setupSize: 0x17,
  setupData: 0x18,
  directory: 0x19,
} as const

const FIRST_FILE = 0x20
const LAST_FILE = 0x3fff
const NAME_SIZE = 56
const ENTRY_SIZE = 64
const TRADITIONAL_AND_DMA = 3
/** What a read of the DMA address gives: "QEMU CFG". */
const DMA_SIGNATURE = Buffer.from('QEMU CFG')
const AT = { selector: 0, data: 1, dmaHigh: 4, dmaLow: 8 }
/** Bits of a DMA request's control word. */
const DMA = { error: 0x01, read: 0x02, skip: 0x04, select: 0x08, write: 0x10 }

const NOTHING = new Uint8Array(0)
/** Zeros behind an item's end that a guest may ask for at once; more would keep this thread busy. */
const LARGEST_PADDING = 0x10_0000

/** Serves items byte by byte through ports, or by copying them into guest memory. */
export class FwCfg implements BusDevice {
  readonly name = 'fw-cfg'
  readonly #memory: PhysicalMemory
  readonly #items = new Map<number, Uint8Array>()
  readonly #files = new Map<string, Uint8Array>()
  #selected = 0
  #position = 0
  #dmaHigh = 0

  constructor(memory: PhysicalMemory) {
    this.#memory = memory
    this.setItem(FW_CFG_ITEM.signature, Buffer.from('QEMU'))
    this.setNumber(FW_CFG_ITEM.id, TRADITIONAL_AND_DMA, 4)
    this.#list()
  }

  /** Sets an item without a name. */
  setItem(item: number, bytes: Uint8Array): void {
    this.#items.set(item, bytes)
  }

  /** Sets an item that is a number of so many bytes, 2, 4 or 8. */
  setNumber(item: number, value: number, size: number): void {
    const bytes = new DataView(new ArrayBuffer(8))
    bytes.setBigUint64(0, BigInt(value), true)
    this.setItem(item, new Uint8Array(bytes.buffer, 0, size))
  }

  /**
   * Adds a file, or replaces it.
   *
   * @param name at most 55 characters, such as `etc/e820` or, for users' own, `opt/…`
   * @throws RangeError `ERR_OUT_OF_RANGE` for longer names
   */
  setFile(name: string, bytes: Uint8Array): void {
    if (name.length === 0 || name.length >= NAME_SIZE || /[^\x21-\x7e]/.test(name)) {
      throw outOfRange(`a file of fw_cfg has a name of 1 to 55 printable characters, not '${name}'`)
    }
    this.#files.set(name, bytes)
    this.#list()
  }

  reset(): void {
    this.#select(0)
    this.#dmaHigh = 0
  }

  read(offset: number, size: number): number {
    if (offset === AT.data && size === 1) return this.#next()
    let value = 0
    for (let at = offset + size - 1; at >= offset; at--) {
      value = value * 256 + (DMA_SIGNATURE[at - AT.dmaHigh] ?? 0)
    }
    return value
  }

  write(offset: number, size: number, value: number): void {
    if (offset === AT.selector && size === 2) this.#select(value)
    if (size !== 4) return
    if (offset === AT.dmaHigh) this.#dmaHigh = swap(value)
    if (offset !== AT.dmaLow) return
    const gpa = this.#dmaHigh * 2 ** 32 + swap(value)
    this.#dmaHigh = 0
    this.#transfer(gpa)
  }

  #select(item: number): void {
    this.#selected = item
    this.#position = 0
  }

  #next(): number {
    return this.#items.get(this.#selected)?.[this.#position++] ?? 0
  }

  /** Serves the request in guest memory at `gpa`: control, length, address, all big-endian. */
  #transfer(gpa: number): void {
    const request = this.#readRequest(gpa)
    if (request === undefined) return
    const control = request.getUint32(0)
    const length = request.getUint32(4)
    const target = Number(request.getBigUint64(8))
    if (control & DMA.select) this.#select(control >>> 16)
    const isDone = this.#perform(control, length, target)
    this.#memory.writeU32(gpa, isDone ? 0 : swap(DMA.error))
  }

  #perform(control: number, length: number, target: number): boolean {
    if (control & DMA.write) return false
    if (!(control & (DMA.read | DMA.skip))) return true
    const start = this.#position
    this.#position += length
    if (!(control & DMA.read)) return true
    const bytes = this.#items.get(this.#selected)?.subarray(start, start + length) ?? NOTHING
    const rest = length - bytes.length
    if (rest > LARGEST_PADDING) return false
    return this.#tryMemory(() => {
      this.#memory.write(target, bytes)
      if (rest > 0) this.#memory.fill(target + bytes.length, rest, 0)
    })
  }

  #readRequest(gpa: number): DataView | undefined {
    let bytes: Uint8Array | undefined
    this.#tryMemory(() => {
      bytes = Uint8Array.from(this.#memory.read(gpa, 16))
    })
    return bytes && new DataView(bytes.buffer)
  }

  /** The guest chose the address, so what is wrong with it is no error of the machine. */
  #tryMemory(access: () => void): boolean {
    try {
      access()
      return true
    } catch {
      return false
    }
  }

  /** The directory: files by name, with their numbers and sizes, big-endian. */
  #list(): void {
    const names = [...this.#files.keys()].sort()
    if (FIRST_FILE + names.length > LAST_FILE) throw outOfRange('too many files in fw_cfg')
    const directory = Buffer.alloc(4 + names.length * ENTRY_SIZE)
    directory.writeUInt32BE(names.length)
    names.forEach((name, index) => {
      const bytes = this.#files.get(name)!
      const at = 4 + index * ENTRY_SIZE
      directory.writeUInt32BE(bytes.length, at)
      directory.writeUInt16BE(FIRST_FILE + index, at + 4)
      directory.write(name, at + 8)
      this.setItem(FIRST_FILE + index, bytes)
    })
    this.setItem(FW_CFG_ITEM.directory, directory)
  }
}

const swap = (value: number): number =>
  ((value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0
