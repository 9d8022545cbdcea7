// The generated codecs alone, beside what one would write by hand with a DataView.

import {
  decodeKvmCpuidEntry2,
  decodeKvmRegs,
  decodeKvmSregs2,
  encodeKvmCpuidEntry2,
  encodeKvmRegs,
  encodeKvmSregs2,
  type KvmCpuidEntry2,
  type KvmDtable,
  type KvmRegs,
  type KvmSegment,
  type KvmSregs2,
  StructView,
} from 'node-kvm/uapi'
import type { Context } from './benchmark.js'
import { compare } from './harness.js'
import { keep } from './keep.js'
import { type Row, row } from './report.js'

interface Codec<T> {
  name: string
  decode: (view: StructView) => T
  encode: (view: StructView, value: T) => void
  decodeByHand: (data: DataView) => T
  encodeByHand: (data: DataView, value: T) => void
}

/** Rows for the benchmark `api`. */
export function codecRows(context: Context): Row[] {
  return [...rowsOf(context, regs), ...rowsOf(context, sregs2), ...rowsOf(context, cpuid)]
}

function rowsOf<T>({ loops, effort }: Context, codec: Codec<T>): Row[] {
  const { name, decode, encode, decodeByHand, encodeByHand } = codec
  const view = new StructView(SIZE)
  const data = new DataView(view.buffer)
  // Bits in every field, and values as a guest has them: some small, some that need 64 bits.
  for (let i = 0; i < SIZE; i += 8) view.u64[i / 8] = 0x0001_0001_0000_0001n << BigInt(i % 48)
  const value = decode(view)
  if (!equal(decodeByHand(data), value)) throw new Error(`the two decoders of ${name} differ`)
  const decoding = {
    c: (count: number) => {
      let last: T | undefined
      for (let i = 0; i < count; i++) last = decodeByHand(data)
      keep(last)
    },
    ours: (count: number) => {
      let last: T | undefined
      for (let i = 0; i < count; i++) last = decode(view)
      keep(last)
    },
  }
  const encoding = {
    c: (count: number) => {
      for (let i = 0; i < count; i++) encodeByHand(data, value)
    },
    ours: (count: number) => {
      for (let i = 0; i < count; i++) encode(view, value)
    },
  }
  const what = (verb: string) => `${name} ${verb} (not C: a DataView by hand)`
  return [
    row(
      `decode ${name}`,
      what('decoded'),
      compare(loops, () => decoding, effort),
    ),
    row(
      `encode ${name}`,
      what('encoded'),
      compare(loops, () => encoding, effort),
    ),
  ]
}

const SIZE = 320

const equal = (one: unknown, other: unknown) => text(one) === text(other)
const text = (value: unknown) =>
  JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? `${part}n` : part))

const regs: Codec<KvmRegs> = {
  name: 'kvm_regs',
  decode: (view) => decodeKvmRegs(view, 0),
  encode: (view, value) => encodeKvmRegs(view, 0, value),
  decodeByHand: (data) => ({
    rax: data.getBigUint64(0, true),
    rbx: data.getBigUint64(8, true),
    rcx: data.getBigUint64(16, true),
    rdx: data.getBigUint64(24, true),
    rsi: data.getBigUint64(32, true),
    rdi: data.getBigUint64(40, true),
    rsp: data.getBigUint64(48, true),
    rbp: data.getBigUint64(56, true),
    r8: data.getBigUint64(64, true),
    r9: data.getBigUint64(72, true),
    r10: data.getBigUint64(80, true),
    r11: data.getBigUint64(88, true),
    r12: data.getBigUint64(96, true),
    r13: data.getBigUint64(104, true),
    r14: data.getBigUint64(112, true),
    r15: data.getBigUint64(120, true),
    rip: data.getBigUint64(128, true),
    rflags: data.getBigUint64(136, true),
  }),
  encodeByHand: (data, value) => {
    data.setBigUint64(0, value.rax, true)
    data.setBigUint64(8, value.rbx, true)
    data.setBigUint64(16, value.rcx, true)
    data.setBigUint64(24, value.rdx, true)
    data.setBigUint64(32, value.rsi, true)
    data.setBigUint64(40, value.rdi, true)
    data.setBigUint64(48, value.rsp, true)
    data.setBigUint64(56, value.rbp, true)
    data.setBigUint64(64, value.r8, true)
    data.setBigUint64(72, value.r9, true)
    data.setBigUint64(80, value.r10, true)
    data.setBigUint64(88, value.r11, true)
    data.setBigUint64(96, value.r12, true)
    data.setBigUint64(104, value.r13, true)
    data.setBigUint64(112, value.r14, true)
    data.setBigUint64(120, value.r15, true)
    data.setBigUint64(128, value.rip, true)
    data.setBigUint64(136, value.rflags, true)
  },
}

const segmentByHand = (data: DataView, at: number): KvmSegment => ({
  base: data.getBigUint64(at, true),
  limit: data.getUint32(at + 8, true),
  selector: data.getUint16(at + 12, true),
  type: data.getUint8(at + 14),
  present: data.getUint8(at + 15),
  dpl: data.getUint8(at + 16),
  db: data.getUint8(at + 17),
  s: data.getUint8(at + 18),
  l: data.getUint8(at + 19),
  g: data.getUint8(at + 20),
  avl: data.getUint8(at + 21),
  unusable: data.getUint8(at + 22),
})

function putSegmentByHand(data: DataView, at: number, segment: KvmSegment): void {
  data.setBigUint64(at, segment.base, true)
  data.setUint32(at + 8, segment.limit, true)
  data.setUint16(at + 12, segment.selector, true)
  data.setUint8(at + 14, segment.type)
  data.setUint8(at + 15, segment.present)
  data.setUint8(at + 16, segment.dpl)
  data.setUint8(at + 17, segment.db)
  data.setUint8(at + 18, segment.s)
  data.setUint8(at + 19, segment.l)
  data.setUint8(at + 20, segment.g)
  data.setUint8(at + 21, segment.avl)
  data.setUint8(at + 22, segment.unusable)
}

const tableByHand = (data: DataView, at: number): KvmDtable => ({
  base: data.getBigUint64(at, true),
  limit: data.getUint16(at + 8, true),
})

function putTableByHand(data: DataView, at: number, table: KvmDtable): void {
  data.setBigUint64(at, table.base, true)
  data.setUint16(at + 8, table.limit, true)
}

const sregs2: Codec<KvmSregs2> = {
  name: 'kvm_sregs2',
  decode: (view) => decodeKvmSregs2(view, 0),
  encode: (view, value) => encodeKvmSregs2(view, 0, value),
  decodeByHand: (data) => ({
    cs: segmentByHand(data, 0),
    ds: segmentByHand(data, 24),
    es: segmentByHand(data, 48),
    fs: segmentByHand(data, 72),
    gs: segmentByHand(data, 96),
    ss: segmentByHand(data, 120),
    tr: segmentByHand(data, 144),
    ldt: segmentByHand(data, 168),
    gdt: tableByHand(data, 192),
    idt: tableByHand(data, 208),
    cr0: data.getBigUint64(224, true),
    cr2: data.getBigUint64(232, true),
    cr3: data.getBigUint64(240, true),
    cr4: data.getBigUint64(248, true),
    cr8: data.getBigUint64(256, true),
    efer: data.getBigUint64(264, true),
    apic_base: data.getBigUint64(272, true),
    flags: data.getBigUint64(280, true),
    pdptrs: [288, 296, 304, 312].map((at) => data.getBigUint64(at, true)),
  }),
  encodeByHand: (data, value) => {
    putSegmentByHand(data, 0, value.cs)
    putSegmentByHand(data, 24, value.ds)
    putSegmentByHand(data, 48, value.es)
    putSegmentByHand(data, 72, value.fs)
    putSegmentByHand(data, 96, value.gs)
    putSegmentByHand(data, 120, value.ss)
    putSegmentByHand(data, 144, value.tr)
    putSegmentByHand(data, 168, value.ldt)
    putTableByHand(data, 192, value.gdt)
    putTableByHand(data, 208, value.idt)
    data.setBigUint64(224, value.cr0, true)
    data.setBigUint64(232, value.cr2, true)
    data.setBigUint64(240, value.cr3, true)
    data.setBigUint64(248, value.cr4, true)
    data.setBigUint64(256, value.cr8, true)
    data.setBigUint64(264, value.efer, true)
    data.setBigUint64(272, value.apic_base, true)
    data.setBigUint64(280, value.flags, true)
    for (let i = 0; i < 4; i++) data.setBigUint64(288 + i * 8, value.pdptrs[i]!, true)
  },
}

const cpuid: Codec<KvmCpuidEntry2> = {
  name: 'kvm_cpuid_entry2',
  decode: (view) => decodeKvmCpuidEntry2(view, 0),
  encode: (view, value) => encodeKvmCpuidEntry2(view, 0, value),
  decodeByHand: (data) => ({
    function: data.getUint32(0, true),
    index: data.getUint32(4, true),
    flags: data.getUint32(8, true),
    eax: data.getUint32(12, true),
    ebx: data.getUint32(16, true),
    ecx: data.getUint32(20, true),
    edx: data.getUint32(24, true),
  }),
  encodeByHand: (data, value) => {
    data.setUint32(0, value.function, true)
    data.setUint32(4, value.index, true)
    data.setUint32(8, value.flags, true)
    data.setUint32(12, value.eax, true)
    data.setUint32(16, value.ebx, true)
    data.setUint32(20, value.ecx, true)
    data.setUint32(24, value.edx, true)
  },
}
