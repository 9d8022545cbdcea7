// Arguments that run code: getters, proxies and thenables that call the API again in the middle of
// a call, or close the object it is made on.

import { expect, test } from 'vitest'
import type { MsrEntry, Vcpu } from '../../src/index.js'
import { withoutApicIds } from '../helpers/apic-id.js'
import { createGuest, HALT, OUT_LOOP } from '../helpers/guest.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'

const SYSENTER_CS = 0x174
const SYSENTER_ESP = 0x175

/** `object`, whose property `name` runs `action` each time it is read. */
function withAction<T extends object>(object: T, name: keyof T & string, action: () => void): T {
  const { [name]: value } = object
  return Object.defineProperty({ ...object }, name, {
    enumerable: true,
    get: () => {
      action()
      return value
    },
  })
}

/** Calls that use the scratch memory, as much of it as they can. */
function disturb(vcpu: Vcpu): void {
  vcpu.getXsave()
  vcpu.vm.kvm.getSupportedCpuid()
  vcpu.getSregs()
  vcpu.setRegs({ ...vcpu.getRegs(), rbx: 0xbadn })
}

test('a getter that calls the API does not change what setRegs encodes', () => {
  using guest = createGuest(HALT)
  const { vcpu } = guest
  const wanted = { ...vcpu.getRegs(), rax: 1n, rbx: 2n, rcx: 3n, r15: 15n }
  vcpu.setRegs(withAction(wanted, 'rcx', () => disturb(vcpu)))
  expect(vcpu.getRegs()).toEqual(wanted)
})

test('nor what setSregs encodes, nor its segments', () => {
  using guest = createGuest(HALT)
  const { vcpu } = guest
  const wanted = vcpu.getSregs()
  wanted.fs.base = 0x1234n
  wanted.cr2 = 0x5678n
  const segment = withAction(wanted.gs, 'limit', () => disturb(vcpu))
  vcpu.setSregs(withAction({ ...wanted, gs: segment }, 'cr2', () => disturb(vcpu)))
  expect(vcpu.getSregs()).toEqual(wanted)
})

test('nor what setFpu and setVcpuEvents encode', () => {
  using guest = createGuest(HALT)
  const { vcpu } = guest
  const fpu = vcpu.getFpu()
  fpu.xmm[5] = new Uint8Array(16).fill(0xa5)
  vcpu.setFpu(withAction(fpu, 'mxcsr', () => disturb(vcpu)))
  expect(vcpu.getFpu()).toEqual(fpu)
  const events = vcpu.getVcpuEvents()
  vcpu.setVcpuEvents(withAction(events, 'flags', () => disturb(vcpu)))
  expect(vcpu.getVcpuEvents()).toEqual(events)
})

test('nor which MSRs setMsrs writes', () => {
  using guest = createGuest(HALT)
  const { vcpu } = guest
  const entries: MsrEntry[] = [
    withAction({ index: SYSENTER_CS, data: 0x10n }, 'data', () => disturb(vcpu)),
    withAction({ index: SYSENTER_ESP, data: 0x20n }, 'index', () => {
      vcpu.setMsrs([{ index: SYSENTER_CS, data: 0x99n }])
    }),
  ]
  vcpu.setMsrs(entries)
  expect(vcpu.getMsrs([SYSENTER_CS, SYSENTER_ESP])).toEqual([
    { index: SYSENTER_CS, data: 0x10n },
    { index: SYSENTER_ESP, data: 0x20n },
  ])
})

test('nor the leaves of setCpuid2', () => {
  using guest = createGuest(HALT)
  const { vcpu, kvm } = guest
  const leaves = kvm.getSupportedCpuid()
  vcpu.setCpuid2(leaves)
  const wanted = vcpu.getCpuid2()
  vcpu.setCpuid2(leaves.map((leaf) => withAction(leaf, 'eax', () => void vcpu.getCpuid2())))
  expect(withoutApicIds(vcpu.getCpuid2())).toEqual(withoutApicIds(wanted))
})

test('nor what the sync registers take', () => {
  using guest = createGuest(OUT_LOOP)
  const { vcpu } = guest
  const registers = vcpu.enableSyncRegs()
  vcpu.run()
  const sregs = registers.getSregs()
  sregs.fs.base = 0x4321n
  registers.setSregs(withAction(sregs, 'cr3', () => void vcpu.run()))
  expect(registers.getSregs()).toEqual(sregs)
  vcpu.run()
  expect(vcpu.getSregs().fs.base).toBe(0x4321n)
})

test('a getter that throws leaves the registers as they were', () => {
  using guest = createGuest(HALT)
  const { vcpu } = guest
  const before = vcpu.getRegs()
  const failing = withAction({ ...before, rax: 77n }, 'rflags', () => {
    throw new Error('not today')
  })
  expect(thrownBy(() => vcpu.setRegs(failing))).toMatchObject({ message: 'not today' })
  expect(vcpu.getRegs()).toEqual(before)
})

test('a getter that closes the vCPU makes the call find it closed', () => {
  using guest = createGuest(HALT)
  const { vcpu } = guest
  const regs = withAction(vcpu.getRegs(), 'r8', () => vcpu.close())
  expect(codeOf(() => vcpu.setRegs(regs))).toBe('ERR_KVM_CLOSED')
})

test('a getter that closes the VM makes createVcpu-like calls find it closed', () => {
  using guest = createGuest(HALT)
  const { vm, memory } = guest
  const region = {
    slot: 1,
    guestPhysAddr: 0x1000_0000,
    memorySize: 0x1000,
    memoryAddress: 0,
    memory,
  }
  const closing = withAction(region, 'memorySize', () => vm.close())
  expect(codeOf(() => vm.setUserMemoryRegion(closing))).toBe('ERR_KVM_CLOSED')
})

test('a getter that closes the memory makes setUserMemoryRegion find it closed', () => {
  using guest = createGuest(HALT)
  const { vm, memory } = guest
  const region = {
    slot: 1,
    guestPhysAddr: 0x1000_0000,
    memorySize: 0x1000,
    memoryAddress: 0,
    memory,
  }
  const closing = withAction(region, 'memoryAddress', () => memory.close())
  expect(codeOf(() => vm.setUserMemoryRegion(closing))).toBe('ERR_KVM_CLOSED')
})

test('a getter of the run options that closes the vCPU', () => {
  using guest = createGuest(HALT)
  const { vcpu } = guest
  const options = withAction({ timeoutMs: 5 }, 'timeoutMs', () => vcpu.close())
  expect(codeOf(() => vcpu.run(options))).toBe('ERR_KVM_CLOSED')
})

test('a value that is another at each reading corrupts nothing', () => {
  using guest = createGuest(HALT)
  const { vcpu } = guest
  const answers: unknown[] = [1n, 'text', -1n, 1n << 70n, undefined]
  let reads = 0
  const fickle = Object.defineProperty({ ...vcpu.getSregs() }, 'cr3', {
    get: () => answers[reads++ % answers.length],
  })
  for (let i = 0; i < 20; i++) {
    try {
      vcpu.setSregs(fickle)
    } catch (error) {
      expect(error).toBeInstanceOf(Error)
    }
  }
  const registers = vcpu.getRegs()
  expect(vcpu.run().type).toBe('hlt')
  expect(vcpu.getRegs().rip).toBe(registers.rip + 1n)
})

test('an array whose length changes while it is read', () => {
  using guest = createGuest(HALT)
  const { vcpu } = guest
  const entries = [{ index: SYSENTER_CS, data: 1n }]
  const growing = new Proxy(entries, {
    get(target, name, receiver) {
      if (name === 'length') target.push({ index: SYSENTER_ESP, data: 2n })
      return Reflect.get(target, name, receiver)
    },
  })
  vcpu.setMsrs(growing)
  expect(vcpu.getMsrs([SYSENTER_CS])).toEqual([{ index: SYSENTER_CS, data: 1n }])
})

test('bytes that shrink or detach while they are given', () => {
  using guest = createGuest(HALT)
  const bytes = new Uint8Array(16)
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] })
  guest.memory.write(0, bytes)
  expect(codeOf(() => guest.vcpu.setXsave(bytes))).toBe('ERR_OUT_OF_RANGE')
})
