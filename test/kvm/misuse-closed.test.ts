// Every public method of a closed object: either it is documented as harmless then, or it throws
// ERR_KVM_CLOSED. The methods are taken from the classes, so a new one cannot be forgotten.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { EventFd } from '../../src/index.js'
import { createGuest, type Guest, HALT } from '../helpers/guest.js'
import { codeOf } from '../helpers/thrown.js'

/** For other files of the library only: they check nothing. */
const internal = [
  'constructor',
  'request',
  'send',
  'sendPointers',
  'issue',
  'issueError',
  'findExitHandler',
]

/** Methods and getters that a class and its bases have for users. */
function membersOf(prototype: object): { methods: string[]; getters: string[] } {
  const methods = new Set<string>()
  const getters = new Set<string>()
  for (let at = prototype; at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(at))) {
      if (internal.includes(name)) continue
      if (property.get) getters.add(name)
      else methods.add(name)
    }
  }
  return { methods: [...methods], getters: [...getters] }
}

// Two of everything, made and closed in turn, so that valid arguments can be given to closed objects.
let closed: Guest
let open: Guest
let states: { vcpu: unknown; vm: unknown }
let regs: Record<'regs' | 'sregs' | 'fpu' | 'events' | 'xsave', unknown>

beforeAll(() => {
  closed = createGuest(HALT)
  open = createGuest(HALT)
  const { vcpu } = open
  states = { vcpu: vcpu.saveState(), vm: open.vm.saveState([]) }
  regs = {
    regs: vcpu.getRegs(),
    sregs: vcpu.getSregs(),
    fpu: vcpu.getFpu(),
    events: vcpu.getVcpuEvents(),
    xsave: vcpu.getXsave(),
  }
  closed.close()
})
afterAll(() => open.close())

const events: EventFd[] = []
const eventFd = () => events[events.push(EventFd.create()) - 1]
afterAll(() => {
  for (const event of events) event.close()
})

const codec = { size: 1, decode: () => 0, encode: () => {} }

/** Arguments that would do on an open object, by method, or by class and method. */
const valid: Record<string, () => unknown[]> = {
  unsafeIoctl: () => [0xae00],
  checkExtension: () => [0],
  getMsrs: () => [[0x10]],
  enableCap: () => [168],
  setUserMemoryRegion: () => [
    { slot: 0, guestPhysAddr: 0, memorySize: 0x1000, memory: open.memory },
  ],
  mapMemory: () => [open.memory],
  setUserMemoryRegion2: () => [
    { slot: 0, guestPhysAddr: 0, memorySize: 0x1000, memory: open.memory },
  ],
  createGuestMemfd: () => [0x1000],
  createGuestMemory: () => [0x1000],
  setMemoryAttributes: () => [{ address: 0, size: 0x1000, attributes: 0 }],
  getDirtyLog: () => [0],
  clearDirtyLog: () => [{ slot: 0, firstPage: 0, pageCount: 64, bitmap: new Uint8Array(8) }],
  setNrMmuPages: () => [64],
  irqLine: () => [0, true],
  irqLineStatus: () => [0, true],
  getIrqchip: () => [0],
  setIrqchip: () => [{ chip_id: 0, chip: {} }],
  setPit: () => [{ channels: [] }],
  setPit2: () => [{ channels: [], flags: 0 }],
  reinjectControl: () => [true],
  setGsiRouting: () => [[]],
  signalMsi: () => [{ address_lo: 0xfee00000, data: 0 }],
  irqfd: () => [{ eventFd: eventFd(), gsi: 0 }],
  ioeventfd: () => [{ eventFd: eventFd(), address: 0, length: 1 }],
  hypervEventfd: () => [{ connId: 0 }],
  registerCoalescedMmio: () => [{ address: 0, size: 8 }],
  unregisterCoalescedMmio: () => [{ address: 0, size: 8 }],
  setClock: () => [{ clock: 0n }],
  x86SetMsrFilter: () => [{ ranges: [] }],
  setPmuEventFilter: () => [{ action: 0, events: [] }],
  xenHvmConfig: () => [{ flags: 0, msr: 0 }],
  xenHvmGetAttr: () => [0],
  xenHvmSetAttr: () => [{ type: 0, u: { long_mode: 1 } }],
  xenHvmEvtchnSend: () => [{ port: 1, vcpu: 0, priority: 0 }],
  memoryEncryptRegRegion: () => [{ memory: open.memory, address: 0, size: 0x1000 }],
  memoryEncryptUnregRegion: () => [{ memory: open.memory, address: 0, size: 0x1000 }],
  createDevice: () => [{ type: 4 }],
  setTssAddr: () => [0xfffbd000],
  setIdentityMapAddr: () => [0xfffbc000],
  setBootCpuId: () => [0],
  start: () => [() => {}],
  setRegs: () => [regs.regs],
  setSregs: () => [regs.sregs],
  setFpu: () => [regs.fpu],
  setVcpuEvents: () => [regs.events],
  setXsave: () => [regs.xsave],
  setCpuid2: () => [[]],
  setMsrs: () => [[{ index: 0x174, data: 0n }]],
  setMpState: () => [0],
  setLapic: () => [new Uint8Array(1024)],
  updateRegs: () => [{ rax: 1n }],
  updateSregs: () => [{ cr2: 1n }],
  setSregs2: () => [{}],
  setDebugregs: () => [{}],
  translate: () => [0n],
  setXcrs: () => [[]],
  getOneReg: () => [0n],
  setOneReg: () => [0n, 0n],
  setCpuid: () => [[]],
  x86SetupMce: () => [1n],
  x86SetMce: () => [{}],
  interrupt: () => [32],
  updateLapic: () => [() => {}],
  tprAccessReporting: () => [false],
  setVapicAddr: () => [0],
  setTscKhz: () => [0],
  setGuestDebug: () => [{}],
  setNestedState: () => [{ data: new Uint8Array() }],
  xenVcpuGetAttr: () => [0],
  xenVcpuSetAttr: () => [{ type: 0 }],
  xenVcpuSetInfoMemory: () => [open.memory, 0],
  preFaultMemory: () => [0, 4096],
  populateMemory: () => [0, 4096],
  setSignalMask: () => [0n],
  hasDeviceAttr: () => [0, 0],
  getDeviceAttr: () => [0, 0],
  setDeviceAttr: () => [0, 0, 0n],
  memoryEncryptOp: () => [{ family: 'tdx', name: '', id: 2, struct: new Uint8Array(8) }],
  tdxInitMemRegion: () => [0, new Uint8Array(4096)],
  saveState: () => [[]],
  'Vcpu.restoreState': () => [states.vcpu],
  'Vm.restoreState': () => [[], states.vm],
  view: () => [0, 1],
  read: () => [0, 1],
  write: () => [0, Uint8Array.of(1)],
  fill: () => [0, 1],
  readU8: () => [0],
  readU16: () => [0],
  readU32: () => [0],
  readU64: () => [0],
  writeU8: () => [0, 0],
  writeU16: () => [0, 0],
  writeU32: () => [0, 0],
  writeU64: () => [0, 0n],
  readString: () => [0, 1],
  writeString: () => [0, ''],
  readStruct: () => [0, codec],
  writeStruct: () => [0, codec, 0],
  readParts: () => [[{ gpa: 0, length: 1 }]],
  writeParts: () => [[{ gpa: 0, length: 1 }], Uint8Array.of(1)],
  indexOf: () => [Uint8Array.of(0), 0, 1],
  isZero: () => [0, 1],
  zeroPages: () => [0, 0x1000],
  copyTo: () => [open.memory, 0, 0, 1],
  atomicLoad: () => [0, 'u8'],
  atomicStore: () => [0, 'u8', 0],
  atomicAdd: () => [0, 'u8', 0],
  atomicCompareExchange: () => [0, 'u8', 0, 0],
  eachPiece: () => [0, 1, () => true],
  element: () => [0, 'u8'],
  parts: () => [0, 1],
  discard: () => [0, 0x1000],
  advise: () => [0, 0x1000, 'cold'],
  residency: () => [0, 0x1000],
  pageState: () => [0],
}

/** Takes no arguments and needs the file. */
const needsTheFile = new Set([
  ...Object.keys(valid),
  'createVm',
  'createVcpu',
  'createIrqchip',
  'createPit2',
  'run',
  'getRegs',
  'getSregs',
  'getFpu',
  'getXsave',
  'getVcpuEvents',
  'getCpuid2',
  'getMpState',
  'getLapic',
  'enableSyncRegs',
  'getApiVersion',
  'getVcpuMmapSize',
  'getSupportedCpuid',
  'getEmulatedCpuid',
  'getMsrIndexList',
  'getMsrFeatureIndexList',
  'x86GetMceCapSupported',
])

/** Documented as harmless at any time. */
const harmless = new Set(['close', 'kick', 'stop', 'requestStop', 'join'])

function describeClosed(name: string, prototype: object, object: () => object) {
  describe(`a closed ${name}`, () => {
    const { methods, getters } = membersOf(prototype)
    const call = (method: string) =>
      (object() as Record<string, (...args: unknown[]) => unknown>)[method]!(
        ...(valid[method]?.() ?? []),
      )
    test.each(methods.filter((method) => needsTheFile.has(method)))('refuses %s()', (method) => {
      expect(codeOf(() => call(method))).toBe('ERR_KVM_CLOSED')
    })
    test.each(methods.filter((method) => harmless.has(method)))('allows %s()', async (method) => {
      expect(await call(method)).toBeUndefined()
    })
    // What is not known here may do either, or find fault with its missing arguments.
    const others = methods.filter((method) => !needsTheFile.has(method) && !harmless.has(method))
    test.each(others)('answers %s() with a typed error, or quietly', async (method) => {
      let error: unknown
      try {
        await call(method)
      } catch (thrown) {
        error = thrown
      }
      if (error !== undefined) expect(error).toMatchObject({ code: expect.any(String) })
    })
    test.each(getters)('answers %s with a typed error, or quietly', (getter) => {
      let error: unknown
      try {
        void (object() as Record<string, unknown>)[getter]
      } catch (thrown) {
        error = thrown
      }
      if (error !== undefined) expect(error).toMatchObject({ code: expect.any(String) })
    })
    test('says so and can be disposed of again', () => {
      const target = object() as { closed: boolean } & Disposable
      target[Symbol.dispose]()
      expect(target.closed).toBe(true)
    })
  })
}

const sample = createGuest(HALT)
sample.close()
for (const part of ['kvm', 'vm', 'vcpu', 'memory'] as const) {
  const prototype = Object.getPrototypeOf(sample[part]) as { constructor: { name: string } }
  describeClosed(prototype.constructor.name, prototype, () => closed[part])
}

test('what a closed memory was is still known', () => {
  expect(closed.memory.size).toBe(0x10_0000)
  expect(closed.memory.ranges).toEqual([{ gpa: 0, size: 0x10_0000 }])
})

test('a run with options is refused too, and lifts its own deadline', () => {
  expect(codeOf(() => closed.vcpu.run({ timeoutMs: 1 }))).toBe('ERR_KVM_CLOSED')
})

test('sync registers of a closed vCPU are the last ones and harmless to write', () => {
  const guest = createGuest(HALT)
  const registers = guest.vcpu.enableSyncRegs()
  guest.vcpu.run()
  const { rip } = registers
  guest.close()
  expect(registers.rip).toBe(rip)
  registers.rip = 5n
  expect(registers.getRegs().rip).toBe(5n)
})

test('the last exit of a closed vCPU can still be read', () => {
  const guest = createGuest([0xb0, 0x41, 0xe6, 0x10]) // mov al, 0x41; out 0x10, al
  const exit = guest.vcpu.run()
  guest.close()
  expect(exit).toMatchObject({ type: 'io', port: 0x10, value: 0x41 })
  if (exit.type === 'io') expect([...exit.data]).toEqual([0x41])
})
