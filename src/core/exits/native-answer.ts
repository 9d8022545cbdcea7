// What a VM's exit table can do with an access (native/exit_table.h), from what users say.

import type { Binding, ExitRangeArguments, FileHandle } from '../../binding.js'
import { KvmError, kvmError } from '../errors.js'
import { EventFd } from '../interrupts/event-fd.js'
import { GuestMemory } from '../memory.js'
import { PlainFile } from '../plain-file.js'
import { integer, invalidArgType, object, outOfRange, uint32 } from '../validate.js'
import { WriteSink } from './write-sink.js'

const READ_EXITS = 0
const READ_CONSTANT = 1
const READ_MEMORY = 2
const READ_INDEXED = 3
const READ_CLOCK = 4
const WRITE_EXITS = 0
const WRITE_IGNORED = 1
const WRITE_SIGNALS = 2
const WRITE_SINKS = 3
const WRITE_STORES = 4
const MAX_HZ = 1e9

/** Registers in memory that JavaScript writes and a guest reads without an exit to JavaScript. */
export interface RegisterFile {
  memory: GuestMemory
  /** The address in `memory` of the range's first byte. Default 0. */
  address?: number
}

/**
 * Registers that an index register chooses, as PCI's configuration mechanism 1 has them. The index is
 * a 32-bit word of the same memory, a multiple of 4: let another range's writes store it.
 */
export interface IndexedRegisters extends RegisterFile {
  /** The address in `memory` of the index. */
  index: number
  /** The bits of the index that are added to `address`. */
  select: number
  /** Of the index, these bits must be `match`, or all ones are read. Default 0: always. */
  mask?: number
  /** See `mask`. Default 0. */
  match?: number
}

/** A counter that runs with the host's monotonic clock (`process.hrtime`), from 0 with it. */
export interface CounterRegister {
  /** Ticks in a second, at most 10^9. */
  hz: number
}

/** How a range of ports or addresses is answered below JavaScript. */
export interface NativeAnswer {
  /**
   * What reads give: the low bytes of a number, registers in memory (a read is one load where the
   * CPU has it: 1, 2, 4 or 8 aligned bytes), or a counter. Left out, reads exit.
   */
  read?: number | bigint | RegisterFile | IndexedRegisters | CounterRegister
  /**
   * Where writes go: nowhere, into memory, into an eventfd that counts them, or into a sink that keeps
   * them. Left out, writes exit.
   */
  write?: 'ignore' | RegisterFile | EventFd | WriteSink
  /** Only accesses of so many bytes are answered. Default: any. */
  size?: 1 | 2 | 4 | 8
  /**
   * Which accesses are answered at the moment: a byte for each address of the range, or for reads of
   * {@link IndexedRegisters} for each of those, with bit 0 for reads and bit 1 for writes. With bit 2 a
   * write is urgent: a sink is drained at once, and until it has handed over every such write, reads of
   * ranges that lead there exit. JavaScript may change it at any time. Left out, all are answered, and
   * none is urgent.
   */
  gate?: RegisterFile
  /**
   * Up to when reads are answered: 64 bits of memory, aligned, in nanoseconds of the host's monotonic
   * clock (`process.hrtime.bigint()`). For registers that change with time. Left out, always.
   */
  until?: RegisterFile
}

/** Adds a range to a VM's table. Returns its number there. */
export function addExitRange(
  native: Binding,
  vm: FileHandle,
  range: { isPort: boolean; start: number; length: number },
  answer: NativeAnswer,
): number {
  const { read, write, size = 0 } = object(answer, 'answer')
  const { isPort, start, length } = range
  if (![0, 1, 2, 4, 8].includes(size)) throw outOfRange('answer.size', '1, 2, 4 or 8', size)
  const number = native.addExitRange(
    vm,
    isPort ? 1 : 0,
    start,
    length,
    size,
    ...readArguments(read, length),
    ...writeArguments(write, length),
    ...gateArguments(answer, length),
    ...untilArguments(answer),
  )
  if (number === -17) {
    const text = `[0x${start.toString(16)}, 0x${(start + length).toString(16)}) overlaps another range`
    throw new KvmError('ERR_KVM_RANGE_TAKEN', undefined, text)
  }
  if (number < 0) throw kvmError(number, { reason: 'exit table' })
  return number
}

type Place = ExitRangeArguments['place']
type Index = ExitRangeArguments['index']
type ReadArguments = ExitRangeArguments['read']
type WriteArguments = ExitRangeArguments['write']

const NOWHERE: Place = [null, 0]
const NO_INDEX: Index = [0, 0, 0, 0]

function readArguments(read: NativeAnswer['read'], length: number): ReadArguments {
  if (read === undefined) return [READ_EXITS, 0, 0, ...NOWHERE, ...NO_INDEX]
  if (typeof read === 'object') {
    object(read, 'answer.read')
    if ('hz' in read) {
      const hz = integer(read.hz, 'answer.read.hz', 1, MAX_HZ)
      return [READ_CLOCK, hz, 0, ...NOWHERE, ...NO_INDEX]
    }
    if ('index' in read) return indexedArguments(read, length)
    return [READ_MEMORY, 0, 0, ...place(read, 'answer.read', length), ...NO_INDEX]
  }
  if (typeof read !== 'bigint') integer(read, 'answer.read')
  const value = BigInt(read)
  if (value < 0n || value >= 1n << 64n) {
    throw outOfRange('answer.read', 'at most 64 bits', value)
  }
  const halves = [Number(value & 0xffff_ffffn), Number(value >> 32n)] as const
  return [READ_CONSTANT, ...halves, ...NOWHERE, ...NO_INDEX]
}

function indexedArguments(read: IndexedRegisters, length: number): ReadArguments {
  const { memory, index, mask = 0, match = 0 } = read
  const select = uint32(read.select, 'answer.read.select')
  const [region, offset] = place(read, 'answer.read', length + select)
  const [indexRegion, indexOffset] = place({ memory, address: index }, 'answer.read.index', 4)
  if (region !== indexRegion || indexOffset % 4 !== 0) {
    throw outOfRange('answer.read.index', 'a multiple of 4 in the same region', index)
  }
  const bits = [uint32(mask, 'answer.read.mask'), uint32(match, 'answer.read.match')] as const
  return [READ_INDEXED, 0, 0, region, offset, indexOffset, select, ...bits]
}

function writeArguments(write: NativeAnswer['write'], length: number): WriteArguments {
  if (write === undefined) return [WRITE_EXITS, ...NOWHERE, 0, null]
  if (write === 'ignore') return [WRITE_IGNORED, ...NOWHERE, 0, null]
  if (write instanceof WriteSink) {
    const { region, capacity, bell } = WriteSink.ringOf(write)
    return [WRITE_SINKS, region, 0, capacity, PlainFile.handleOf(bell, 'bell')]
  }
  if (write instanceof EventFd) {
    return [WRITE_SIGNALS, ...NOWHERE, 0, PlainFile.handleOf(write, 'answer.write')]
  }
  if (typeof write === 'object' && write !== null && 'memory' in write) {
    return [WRITE_STORES, ...place(write, 'answer.write', length), 0, null]
  }
  const expected = "'ignore', an EventFd, a WriteSink or a RegisterFile"
  throw invalidArgType('answer.write', expected, write)
}

function gateArguments({ read, gate }: NativeAnswer, length: number): Place {
  if (gate === undefined) return NOWHERE
  const select = typeof read === 'object' && 'select' in read ? read.select : 0
  return place(gate, 'answer.gate', length + select)
}

function untilArguments({ until }: NativeAnswer): Place {
  if (until === undefined) return NOWHERE
  const [region, offset] = place(until, 'answer.until', 8)
  if (offset % 8 !== 0) throw outOfRange('answer.until.address', 'a multiple of 8', until.address)
  return [region, offset]
}

/** The region that holds all of `length` bytes, and where in it they are. */
function place(file: RegisterFile, name: string, length: number): Place {
  const { memory, address = 0 } = object(file, name)
  integer(address, `${name}.address`)
  const region = GuestMemory.check(memory, `${name}.memory`).regions.find(
    ({ gpa, size }) => address >= gpa && address + length <= gpa + size,
  )
  if (region === undefined) {
    throw new KvmError('ERR_KVM_GUEST_FAULT', undefined, 'not in the memory', { gpa: address })
  }
  return [region.handle, address - region.gpa]
}
