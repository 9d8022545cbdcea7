// What a VM's exit table can do with an access (native/exit_table.h), from what users say.

import type { Binding, ExitRangeArguments, FileHandle } from '../../binding.js'
import { KvmError, kvmError } from '../errors.js'
import { EventFd } from '../interrupts/event-fd.js'
import { GuestMemory } from '../memory.js'
import { PlainFile } from '../plain-file.js'
import { integer, invalidArgType, object, outOfRange } from '../validate.js'
import { WriteSink } from './write-sink.js'

const READ_EXITS = 0
const READ_CONSTANT = 1
const READ_MEMORY = 2
const WRITE_EXITS = 0
const WRITE_IGNORED = 1
const WRITE_SIGNALS = 2
const WRITE_SINKS = 3

/** Registers in memory that JavaScript writes and a guest reads without an exit to JavaScript. */
export interface RegisterFile {
  memory: GuestMemory
  /** The address in `memory` of the range's first byte. Default 0. */
  address?: number
}

/** How a range of ports or addresses is answered below JavaScript. */
export interface NativeAnswer {
  /**
   * What reads give: the low bytes of a number, or registers in memory (a read is one load where the
   * CPU has it: 1, 2, 4 or 8 aligned bytes). Left out, reads exit.
   */
  read?: number | bigint | RegisterFile
  /**
   * Where writes go: nowhere, into an eventfd that counts them, or into a sink that keeps them. Left
   * out, writes exit.
   */
  write?: 'ignore' | EventFd | WriteSink
}

/** Adds a range to a VM's table. Returns its number there. */
export function addExitRange(
  native: Binding,
  vm: FileHandle,
  range: { isPort: boolean; start: number; length: number },
  answer: NativeAnswer,
): number {
  const { read, write } = object(answer, 'answer')
  const { isPort, start, length } = range
  const number = native.addExitRange(
    vm,
    isPort ? 1 : 0,
    start,
    length,
    ...readArguments(read, length),
    ...writeArguments(write),
  )
  if (number === -17) {
    const text = `[0x${start.toString(16)}, 0x${(start + length).toString(16)}) overlaps another range`
    throw new KvmError('ERR_KVM_RANGE_TAKEN', undefined, text)
  }
  if (number < 0) throw kvmError(number, { reason: 'exit table' })
  return number
}

type ReadArguments = ExitRangeArguments['read']
type WriteArguments = ExitRangeArguments['write']

function readArguments(read: NativeAnswer['read'], length: number): ReadArguments {
  if (read === undefined) return [READ_EXITS, 0, 0, null, 0]
  if (typeof read === 'object') {
    const { memory, address = 0 } = object(read, 'answer.read')
    integer(address, 'answer.read.address')
    const region = GuestMemory.check(memory, 'answer.read.memory').regions.find(
      ({ gpa, size }) => address >= gpa && address + length <= gpa + size,
    )
    if (region === undefined) {
      throw new KvmError('ERR_KVM_GUEST_FAULT', undefined, 'not in the memory', { gpa: address })
    }
    return [READ_MEMORY, 0, 0, region.handle, address - region.gpa]
  }
  if (typeof read !== 'bigint') integer(read, 'answer.read')
  const value = BigInt(read)
  if (value < 0n || value >= 1n << 64n) {
    throw outOfRange('answer.read', 'at most 64 bits', value)
  }
  return [READ_CONSTANT, Number(value & 0xffff_ffffn), Number(value >> 32n), null, 0]
}

function writeArguments(write: NativeAnswer['write']): WriteArguments {
  if (write === undefined) return [WRITE_EXITS, null, 0, null]
  if (write === 'ignore') return [WRITE_IGNORED, null, 0, null]
  if (write instanceof WriteSink) {
    const { region, capacity, bell } = WriteSink.ringOf(write)
    return [WRITE_SINKS, region, capacity, PlainFile.handleOf(bell, 'bell')]
  }
  if (write instanceof EventFd) {
    return [WRITE_SIGNALS, PlainFile.handleOf(write, 'answer.write'), 0, null]
  }
  throw invalidArgType('answer.write', "'ignore', an EventFd or a WriteSink", write)
}
