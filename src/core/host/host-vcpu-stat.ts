// One counter out of a vCPU's statistics file (KVM API 4.133).

import { closeSync, readSync } from 'node:fs'
import { decodeKvmStatsHeader, KVM_GET_STATS_FD, StructView } from '../../uapi/index.js'
import type { Vcpu } from '../vcpu.js'

const HEADER_SIZE = 24
/** Bytes of a descriptor before its name. */
const DESCRIPTOR_SIZE = 16
const DESCRIPTOR_OFFSET_FIELD = 8

/**
 * Reads a counter.
 *
 * @returns undefined when the kernel has no statistics file (before 5.14) or no such counter
 */
export function readVcpuStat(vcpu: Vcpu, name: string): bigint | undefined {
  const fd = openStats(vcpu)
  if (fd === undefined) return undefined
  try {
    return findStat(fd, name)
  } finally {
    closeSync(fd)
  }
}

function openStats(vcpu: Vcpu): number | undefined {
  try {
    return vcpu.unsafeIoctl(KVM_GET_STATS_FD)
  } catch {
    return undefined
  }
}

function findStat(fd: number, name: string): bigint | undefined {
  const header = decodeKvmStatsHeader(new StructView(bytesAt(fd, 0, HEADER_SIZE).buffer))
  const step = DESCRIPTOR_SIZE + header.name_size
  const descriptors = bytesAt(fd, header.desc_offset, step * header.num_desc)
  for (let at = 0; at < descriptors.length; at += step) {
    const text = descriptors.toString('latin1', at + DESCRIPTOR_SIZE, at + step)
    if (text.slice(0, text.indexOf('\0')) !== name) continue
    const offset = header.data_offset + descriptors.readUInt32LE(at + DESCRIPTOR_OFFSET_FIELD)
    return bytesAt(fd, offset, 8).readBigUInt64LE()
  }
  return undefined
}

function bytesAt(fd: number, position: number, size: number): Buffer<ArrayBuffer> {
  const bytes = Buffer.from(new ArrayBuffer(size))
  const read = readSync(fd, bytes, 0, size, position)
  if (read !== size) throw new Error(`a statistics file ended after ${read} of ${size} bytes`)
  return bytes
}
