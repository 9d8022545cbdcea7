// Arguments of the wrong type, size or shape: Node's own error codes, and the object is as before.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GuestMemory, Kvm, type Vcpu, type Vm } from '../../src/index.js'
import { createGuest, type Guest, HALT } from '../helpers/guest.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'

const TYPE = 'ERR_INVALID_ARG_TYPE'
const RANGE = 'ERR_OUT_OF_RANGE'

let guest: Guest
beforeAll(() => {
  guest = createGuest(HALT)
})
afterAll(() => guest.close())

/** What is no unsigned 32-bit number, and how that is called. */
const notUint32: [value: unknown, code: string][] = [
  [undefined, TYPE],
  [null, TYPE],
  ['1', TYPE],
  [1n, TYPE],
  [true, TYPE],
  [{}, TYPE],
  [[1], TYPE],
  [{ valueOf: () => 1 }, TYPE],
  [Symbol('one'), TYPE],
  [Number.NaN, RANGE],
  [Number.POSITIVE_INFINITY, RANGE],
  [0.5, RANGE],
  [-1, RANGE],
  [2 ** 32, RANGE],
  [2 ** 53, RANGE],
]

const shown = (value: unknown) =>
  typeof value === 'bigint' ? `${value}n` : typeof value === 'symbol' ? 'symbol' : String(value)

type Call = (value: never) => unknown
/** Everything that takes one 32-bit number and nothing else. `undefined` may mean a default. */
const takesUint32: Record<string, Call> = {
  'kvm.checkExtension': (value) => guest.kvm.checkExtension(value),
  'kvm.getMsrs': (value) => guest.kvm.getMsrs([value]),
  'vm.checkExtension': (value) => guest.vm.checkExtension(value),
  'vm.enableCap': (value) => guest.vm.enableCap(value),
  'vm.enableCap flags': (value) => guest.vm.enableCap(168, { flags: value ?? null! }),
  'vm.irqLine': (value) => guest.vm.irqLine(value, true),
  'vm.setTssAddr': (value) => guest.vm.setTssAddr(value),
  'vm.setBootCpuId': (value) => guest.vm.setBootCpuId(value),
  'vcpu.getMsrs': (value) => guest.vcpu.getMsrs([value]),
  'vcpu.setMsrs': (value) => guest.vcpu.setMsrs([{ index: value, data: 0n }]),
  'vcpu.setMpState': (value) => guest.vcpu.setMpState(value),
  'vcpu.unsafeIoctl': (value) => guest.vcpu.unsafeIoctl(value),
  'setUserMemoryRegion slot': (value) =>
    guest.vm.setUserMemoryRegion({ slot: value, guestPhysAddr: 0, memorySize: 0 }),
}

describe.each(Object.entries(takesUint32))('%s', (_name, call) => {
  test.each(notUint32.map(([value, code]) => [shown(value), value, code] as const))(
    'refuses %s',
    (_shown, value, code) => {
      expect(codeOf(() => call(value as never))).toBe(code)
    },
  )
})

/** What is no guest-physical address. */
const notAddress: [value: unknown, code: string][] = [
  ...notUint32.filter(([value]) => value !== 2 ** 32),
  ['0', TYPE],
  [new Date(0), TYPE],
]

/** Everything that takes an address; the guest has RAM at 0, so anything that counts as 0 would do. */
const takesAddress: Record<string, Call> = {
  readU8: (at) => guest.memory.readU8(at),
  readU16: (at) => guest.memory.readU16(at),
  readU32: (at) => guest.memory.readU32(at),
  readU64: (at) => guest.memory.readU64(at),
  writeU8: (at) => guest.memory.writeU8(at, 0),
  writeU16: (at) => guest.memory.writeU16(at, 0),
  writeU32: (at) => guest.memory.writeU32(at, 0),
  writeU64: (at) => guest.memory.writeU64(at, 0n),
  read: (at) => guest.memory.read(at, 1),
  write: (at) => guest.memory.write(at, Uint8Array.of(0)),
  fill: (at) => guest.memory.fill(at, 1),
  view: (at) => guest.memory.view(at, 1),
  'read length': (length) => guest.memory.read(0, length),
  'fill length': (length) => guest.memory.fill(0, length),
  'view length': (length) => guest.memory.view(0, length),
  'setUserMemoryRegion address': (value) =>
    guest.vm.setUserMemoryRegion({ slot: 9, guestPhysAddr: value, memorySize: 0 }),
  'setUserMemoryRegion size': (value) =>
    guest.vm.setUserMemoryRegion({ slot: 9, guestPhysAddr: 0, memorySize: value }),
  'setUserMemoryRegion memoryAddress': (value) =>
    guest.vm.setUserMemoryRegion({
      slot: 9,
      guestPhysAddr: 0x1000_0000,
      memorySize: 0x1000,
      memory: guest.memory,
      memoryAddress: value ?? (null as never), // undefined has a meaning, null has none
    }),
  setIdentityMapAddr: (value) => guest.vm.setIdentityMapAddr(value),
}

describe.each(Object.entries(takesAddress))('%s', (_name, call) => {
  test.each(notAddress.map(([value, code]) => [shown(value), value, code] as const))(
    'refuses %s',
    (_shown, value, code) => {
      expect(codeOf(() => call(value as never))).toBe(code)
    },
  )
})

test('an unusual address does not spoil the next usual one', () => {
  guest.memory.writeU8(3, 77)
  for (const [value] of notAddress) {
    expect(() => guest.memory.readU8(value as never)).toThrow()
    expect(guest.memory.readU8(3)).toBe(77)
  }
})

type Case = [what: string, code: string, call: (guest: Guest) => unknown]
const any = (value: unknown) => value as never

const cases: Case[] = [
  ['Kvm.open with a number', TYPE, () => Kvm.open(any(42))],
  ['Kvm.open with null', TYPE, () => Kvm.open(any(null))],
  ['Kvm.open with a Buffer', TYPE, () => Kvm.open(any(Buffer.from('/dev/kvm')))],
  ['Kvm.open with a NUL in the path', 'ERR_INVALID_ARG_VALUE', () => Kvm.open('/dev/kvm\0.bak')],
  ['Kvm.open with a missing file', 'ERR_KVM_UNAVAILABLE', () => Kvm.open('/dev/no-such-device')],
  ['Kvm.open with a directory', 'ERR_KVM_UNAVAILABLE', () => Kvm.open('/dev')],
  ['Kvm.open with another device', 'ERR_KVM_UNAVAILABLE', () => Kvm.open('/dev/null')],
  ['createVm with a string', TYPE, ({ kvm }) => kvm.createVm(any('x'))],
  ['createVm of a type that is none', 'EINVAL', ({ kvm }) => kvm.createVm(0xffff)],
  ['getMsrs of what is no list', TYPE, ({ kvm }) => kvm.getMsrs(any(5))],
  ['enableCap with null options', TYPE, ({ vm }) => vm.enableCap(168, any(null))],
  ['enableCap with 5 args', TYPE, ({ vm }) => vm.enableCap(168, { args: [0n, 0n, 0n, 0n, 0n] })],
  ['enableCap with number args', TYPE, ({ vm }) => vm.enableCap(168, { args: any([1]) })],
  ['enableCap with negative args', RANGE, ({ vm }) => vm.enableCap(168, { args: [-1n] })],
  ['enableCap with 65-bit args', RANGE, ({ vm }) => vm.enableCap(168, { args: [1n << 64n] })],
  ['enableCap of what is none', 'EINVAL', ({ vm }) => vm.enableCap(0xfffff)],
  ['createVcpu with a string', TYPE, ({ vm }) => vm.createVcpu(any('0'))],
  ['createVcpu with a negative id', RANGE, ({ vm }) => vm.createVcpu(-1)],
  ['createVcpu with an id in use', 'EEXIST', ({ vm }) => vm.createVcpu(0)],
  ['createVcpu with too large an id', 'EINVAL', ({ vm }) => vm.createVcpu(0xffff_ffff)],
  ['createIrqchip after a vCPU', 'EINVAL', ({ vm }) => vm.createIrqchip()],
  ['irqLine without an irqchip', 'ENXIO', ({ vm }) => vm.irqLine(0, true)],
  ['setIdentityMapAddr after a vCPU', 'EINVAL', ({ vm }) => vm.setIdentityMapAddr(0xfffbc000)],
  ['mapMemory of nothing', TYPE, ({ vm }) => vm.mapMemory(any(undefined))],
  ['mapMemory of a plain object', TYPE, ({ vm }) => vm.mapMemory(any({ ranges: [] }))],
  ['mapMemory of a buffer', TYPE, ({ vm }) => vm.mapMemory(any(new ArrayBuffer(4096)))],
  ['mapMemory with null options', TYPE, ({ vm, memory }) => vm.mapMemory(memory, any(null))],
  ['mapMemory into no slot', RANGE, ({ vm, memory }) => vm.mapMemory(memory, { firstSlot: -1 })],
  ['setUserMemoryRegion of null', TYPE, ({ vm }) => vm.setUserMemoryRegion(any(null))],
  ['run with null options', TYPE, ({ vcpu }) => vcpu.run(any(null))],
  ['run with a number', TYPE, ({ vcpu }) => vcpu.run(any(100))],
  ['run for no time', RANGE, ({ vcpu }) => vcpu.run({ timeoutMs: 0 })],
  ['run for a negative time', RANGE, ({ vcpu }) => vcpu.run({ timeoutMs: -1 })],
  ['run for NaN', RANGE, ({ vcpu }) => vcpu.run({ timeoutMs: Number.NaN })],
  ['run for too long', RANGE, ({ vcpu }) => vcpu.run({ timeoutMs: 2 ** 32 })],
  ['run for a string', TYPE, ({ vcpu }) => vcpu.run({ timeoutMs: any('5') })],
  ['run with a signal that is none', TYPE, ({ vcpu }) => vcpu.run({ signal: any({}) })],
  ['run aborted before', 'ABORT_ERR', ({ vcpu }) => vcpu.run({ signal: AbortSignal.abort() })],
  ['start with null', TYPE, ({ vcpu }) => vcpu.start(any(null))],
  ['start with an object', TYPE, ({ vcpu }) => vcpu.start(any({ handleEvent() {} }))],
  ['setRegs of null', TYPE, ({ vcpu }) => vcpu.setRegs(any(null))],
  ['setRegs of {}', TYPE, ({ vcpu }) => vcpu.setRegs(any({}))],
  ['setRegs with a number', TYPE, ({ vcpu }) => vcpu.setRegs({ ...vcpu.getRegs(), rax: any(1) })],
  ['setRegs with -1n', RANGE, ({ vcpu }) => vcpu.setRegs({ ...vcpu.getRegs(), rax: -1n })],
  ['setRegs with 2^64', RANGE, ({ vcpu }) => vcpu.setRegs({ ...vcpu.getRegs(), rip: 1n << 64n })],
  ['setSregs without cs', TYPE, ({ vcpu }) => vcpu.setSregs({ ...vcpu.getSregs(), cs: any(null) })],
  ['setSregs of registers', TYPE, ({ vcpu }) => vcpu.setSregs(any(vcpu.getRegs()))],
  [
    'setSregs with a limit of 33 bits',
    RANGE,
    ({ vcpu }) => {
      const sregs = vcpu.getSregs()
      sregs.ds.limit = 2 ** 32
      vcpu.setSregs(sregs)
    },
  ],
  [
    'setSregs with a short bitmap',
    RANGE,
    ({ vcpu }) => vcpu.setSregs({ ...vcpu.getSregs(), interrupt_bitmap: [0n] }),
  ],
  [
    'setFpu with a short register',
    RANGE,
    ({ vcpu }) => {
      const fpu = vcpu.getFpu()
      fpu.xmm[3] = new Uint8Array(15)
      vcpu.setFpu(fpu)
    },
  ],
  ['setFpu of null', TYPE, ({ vcpu }) => vcpu.setFpu(any(null))],
  ['setVcpuEvents of []', TYPE, ({ vcpu }) => vcpu.setVcpuEvents(any([]))],
  ['setCpuid2 of an object', TYPE, ({ vcpu }) => vcpu.setCpuid2(any({ length: 1 }))],
  ['setCpuid2 of holes', TYPE, ({ vcpu }) => vcpu.setCpuid2(new Array(3))],
  [
    'setCpuid2 of 257 leaves',
    RANGE,
    ({ kvm, vcpu }) => vcpu.setCpuid2(new Array(257).fill(kvm.getSupportedCpuid()[0])),
  ],
  ['getMsrs of a set', TYPE, ({ vcpu }) => vcpu.getMsrs(any(new Set([1])))],
  ['setMsrs of null', TYPE, ({ vcpu }) => vcpu.setMsrs(any(null))],
  ['setMsrs of [null]', TYPE, ({ vcpu }) => vcpu.setMsrs([any(null)])],
  ['setMsrs of a number', TYPE, ({ vcpu }) => vcpu.setMsrs([{ index: 0x174, data: any(5) }])],
  ['setMsrs of 65 bits', RANGE, ({ vcpu }) => vcpu.setMsrs([{ index: 0x174, data: 1n << 64n }])],
  ['setXsave of an array', TYPE, ({ vcpu }) => vcpu.setXsave(any([1, 2, 3]))],
  ['setXsave of 16-bit numbers', TYPE, ({ vcpu }) => vcpu.setXsave(any(new Uint16Array(2048)))],
  ['setXsave of nothing', RANGE, ({ vcpu }) => vcpu.setXsave(new Uint8Array(0))],
  ['setXsave of too much', RANGE, ({ vcpu }) => vcpu.setXsave(new Uint8Array(0x2_0000))],
  ['setXsave of a Proxy', TYPE, ({ vcpu }) => vcpu.setXsave(new Proxy(new Uint8Array(4096), {}))],
  ['setLapic of too little', RANGE, ({ vcpu }) => vcpu.setLapic(new Uint8Array(1023))],
  ['setLapic without an irqchip', 'EINVAL', ({ vcpu }) => vcpu.setLapic(new Uint8Array(1024))],
  ['getLapic without an irqchip', 'EINVAL', ({ vcpu }) => vcpu.getLapic()],
  ['setMpState that is none', 'EINVAL', ({ vcpu }) => vcpu.setMpState(12345)],
  ['enableSyncRegs of null', TYPE, ({ vcpu }) => vcpu.enableSyncRegs(any(null))],
  ['unsafeIoctl with a string', TYPE, ({ vm }) => vm.unsafeIoctl(0xae03, any('1'))],
  ['unsafeIoctl with a bigint', TYPE, ({ vm }) => vm.unsafeIoctl(0xae03, any(1n))],
  [
    'unsafeIoctl with a Uint8Array',
    TYPE,
    ({ vm }) => vm.unsafeIoctl(0xae03, any(new Uint8Array(8))),
  ],
  ['unsafeIoctl with NaN', RANGE, ({ vm }) => vm.unsafeIoctl(0xae03, Number.NaN)],
  ['unsafeIoctl with a fraction', RANGE, ({ vm }) => vm.unsafeIoctl(0xae03, 1.5)],
  ['unsafeIoctl of what is none', 'ENOTTY', ({ vm }) => vm.unsafeIoctl(0xaeff)],
  ['GuestMemory of nothing', TYPE, () => GuestMemory.create(any(undefined))],
  ['GuestMemory of null', TYPE, () => GuestMemory.create(any(null))],
  ['GuestMemory of no region', TYPE, () => GuestMemory.create([])],
  ['GuestMemory of an object', TYPE, () => GuestMemory.create(any({ gpa: 0, size: 4096 }))],
  ['GuestMemory of [null]', TYPE, () => GuestMemory.create([any(null)])],
  ['GuestMemory of a bigint', TYPE, () => GuestMemory.create(any(4096n))],
  ['GuestMemory of 0 bytes', RANGE, () => GuestMemory.create(0)],
  ['GuestMemory of -4096 bytes', RANGE, () => GuestMemory.create(-4096)],
  ['GuestMemory of half a page', RANGE, () => GuestMemory.create(2048)],
  ['GuestMemory of NaN bytes', RANGE, () => GuestMemory.create(Number.NaN)],
  ['GuestMemory of 2^53 bytes', RANGE, () => GuestMemory.create(2 ** 53)],
  ['GuestMemory at an odd address', RANGE, () => GuestMemory.create([{ gpa: 1, size: 4096 }])],
  ['GuestMemory above 2^52', RANGE, () => GuestMemory.create([{ gpa: 2 ** 52, size: 4096 }])],
  [
    'GuestMemory of regions that overlap',
    RANGE,
    () =>
      GuestMemory.create([
        { gpa: 0x2000, size: 0x1000 },
        { gpa: 0, size: 0x3000 },
      ]),
  ],
  ['writeU8 of 256', RANGE, ({ memory }) => memory.writeU8(0, 256)],
  ['writeU16 of -1', RANGE, ({ memory }) => memory.writeU16(0, -1)],
  ['writeU32 of a bigint', TYPE, ({ memory }) => memory.writeU32(0, any(1n))],
  ['writeU32 of 2^32', RANGE, ({ memory }) => memory.writeU32(0, 2 ** 32)],
  ['writeU64 of a number', TYPE, ({ memory }) => memory.writeU64(0, any(1))],
  ['writeU64 of -1n', RANGE, ({ memory }) => memory.writeU64(0, -1n)],
  ['write of a string', TYPE, ({ memory }) => memory.write(0, any('abc'))],
  ['write of an ArrayBuffer', TYPE, ({ memory }) => memory.write(0, any(new ArrayBuffer(1)))],
  ['write of a Proxy', TYPE, ({ memory }) => memory.write(0, new Proxy(Uint8Array.of(1), {}))],
  ['fill with 256', RANGE, ({ memory }) => memory.fill(0, 1, 256)],
]

test.each(cases)('%s: %s', (_what, code, call) => {
  expect(codeOf(() => call(guest))).toBe(code)
})

describe('every capability number', () => {
  test('is answered or refused, never fatal', () => {
    for (let capability = 0; capability < 300; capability++) {
      expect(guest.vm.checkExtension(capability)).toBeGreaterThanOrEqual(0)
    }
    expect(guest.vm.checkExtension(0xffff_ffff)).toBe(0)
  })
})

describe('MSRs', () => {
  const refused = 0xdead_beef
  test.each<[string, (vcpu: Vcpu) => unknown]>([
    ['getMsrs', (vcpu) => vcpu.getMsrs([0x174, refused, 0x175])],
    ['setMsrs', (vcpu) => vcpu.setMsrs([0x174, refused].map((index) => ({ index, data: 3n })))],
  ])('%s names the one that is refused', (_name, call) => {
    expect(thrownBy(() => call(guest.vcpu))).toMatchObject({ code: 'EINVAL', msr: refused })
  })
  test('a refused one beyond the first batch is named, too', () => {
    const indices = new Array(600).fill(0x174)
    indices[511] = refused
    expect(thrownBy(() => guest.vcpu.getMsrs(indices))).toMatchObject({ msr: refused })
    expect(guest.vcpu.getMsrs(new Array(600).fill(0x174))).toHaveLength(600)
  })
})

describe('a foreign this', () => {
  // What a private member or a missing handle makes of it; the point is that nothing else happens.
  const borrowed = (object: object, name: string) =>
    (object as unknown as Record<string, (this: unknown, ...args: unknown[]) => unknown>)[name]!
  const strangers: [string, () => unknown][] = [
    ['undefined', () => undefined],
    ['{}', () => ({})],
    ['an object of the prototype', () => Object.create(Object.getPrototypeOf(guest.vcpu))],
    ['a Proxy', () => new Proxy(guest.vcpu, {})],
    ['a closed file of the same class', () => closedVcpu],
  ]
  let closedVcpu: Vcpu
  beforeAll(() => {
    const other = createGuest(HALT)
    closedVcpu = other.vcpu
    other.close()
  })
  test.each(strangers)('%s: no vCPU method runs', (_name, stranger) => {
    for (const name of ['run', 'kick', 'start', 'close', 'enableSyncRegs'] as const) {
      if (stranger() === closedVcpu && (name === 'kick' || name === 'close')) continue
      expect(() => borrowed(guest.vcpu, name).call(stranger(), () => {})).toThrow()
    }
    expect(guest.vcpu.run().type).toBe('hlt')
  })
  test.each(['readU8', 'writeU8', 'view', 'read', 'fill'])('memory.%s refuses others', (name) => {
    const method = borrowed(guest.memory, name)
    for (const stranger of [{}, Object.create(GuestMemory.prototype), guest.vm]) {
      expect(() => method.call(stranger, 0, 1)).toThrow(TypeError)
    }
  })
  test('a vCPU method on a VM is no request of it, and the other way round', () => {
    const { vm, vcpu } = guest
    expect(codeOf(() => borrowed(vcpu, 'getRegs').call(vm))).toBe('ENOTTY')
    expect(codeOf(() => borrowed(vm, 'createVcpu').call(vcpu, 5))).toBe(TYPE)
    expect(codeOf(() => borrowed(vm, 'createVcpu').call(guest.kvm, 5))).toBe(TYPE)
  })
})

describe('disguised memory', () => {
  test.each<[string, (vm: Vm, memory: GuestMemory) => unknown]>([
    ['a Proxy', (vm, memory) => vm.mapMemory(new Proxy(memory, {}))],
    ['an object of the prototype', (vm) => vm.mapMemory(Object.create(GuestMemory.prototype))],
    [
      'a Proxy in a region',
      (vm, memory) =>
        vm.setUserMemoryRegion({
          slot: 5,
          guestPhysAddr: 0x1000_0000,
          memorySize: 4096,
          memoryAddress: 0,
          memory: new Proxy(memory, {}),
        }),
    ],
  ])('%s is refused', (_name, call) => {
    expect(codeOf(() => call(guest.vm, guest.memory))).toBe(TYPE)
  })
})

test('classes cannot be constructed around nothing', () => {
  const { vcpu, vm, kvm } = guest
  for (const part of [vcpu, vm, kvm, guest.memory]) {
    const Class = part.constructor as new (...args: unknown[]) => { closed: boolean }
    class Derived extends Class {}
    expect(() => (new Derived() as unknown as Vcpu).run()).toThrow(TypeError)
    expect(() => (new Derived({}, {}) as unknown as Vcpu).run()).toThrow(TypeError)
  }
})

test('after all that the guest still runs', () => {
  expect(guest.vcpu.run().type).toBe('hlt')
})
