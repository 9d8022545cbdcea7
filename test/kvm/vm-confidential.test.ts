// Guests whose memory is encrypted: on hosts without SEV and TDX, the refusals; layouts and lengths
// everywhere.
// covers: KVM_MEMORY_ENCRYPT_OP@vm KVM_MEMORY_ENCRYPT_REG_REGION@vm
// covers: KVM_MEMORY_ENCRYPT_UNREG_REGION@vm

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  type EncryptCommand,
  GuestMemory,
  Kvm,
  PlainFile,
  Sev,
  SevMigration,
  Snp,
  Tdx,
  type Vm,
} from '../../src/index.js'
import { layouts, type StructLayout } from '../../src/uapi/index.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'

let kvm: Kvm
let vm: Vm
let memory: GuestMemory
beforeEach(() => {
  kvm = Kvm.open()
  vm = kvm.createVm()
  memory = GuestMemory.create(0x1_0000)
  vm.mapMemory(memory)
})
afterEach(() => {
  vm.close()
  memory.close()
  kvm.close()
})

const some = (size: number) => new Uint8Array(size).fill(1)
const packet = () => ({ header: some(52), guest: memory.view(0, 4096), transport: some(4096) })

type Commands = Record<string, (target: { memoryEncryptOp(command: EncryptCommand): void }) => void>

/** Every command of SEV, in the kernel's names. */
const sev: Commands = {
  KVM_SEV_INIT: (target) => new Sev(target).init(),
  KVM_SEV_ES_INIT: (target) => new Sev(target).esInit(),
  KVM_SEV_INIT2: (target) => new Sev(target).init2(),
  KVM_SEV_LAUNCH_START: (target) =>
    new Sev(target).launchStart({ policy: 1, dhCertificate: some(8), session: some(9) }),
  KVM_SEV_LAUNCH_UPDATE_DATA: (target) => new Sev(target).launchUpdateData(memory.view(0, 64)),
  KVM_SEV_LAUNCH_UPDATE_VMSA: (target) => new Sev(target).launchUpdateVmsa(),
  KVM_SEV_LAUNCH_SECRET: (target) => new Sev(target).launchSecret(packet()),
  KVM_SEV_LAUNCH_MEASURE: (target) => new Sev(target).launchMeasure(),
  KVM_SEV_LAUNCH_FINISH: (target) => new Sev(target).launchFinish(),
  KVM_SEV_GUEST_STATUS: (target) => new Sev(target).guestStatus(),
  KVM_SEV_DBG_DECRYPT: (target) => new Sev(target).dbgDecrypt(memory.view(0, 16), some(16)),
  KVM_SEV_DBG_ENCRYPT: (target) => new Sev(target).dbgEncrypt(some(16), memory.view(0, 16)),
  KVM_SEV_GET_ATTESTATION_REPORT: (target) => new Sev(target).getAttestationReport(some(16)),
  KVM_SEV_SEND_START: (target) =>
    new SevMigration(target).sendStart({
      policy: 1,
      pdhCertificate: some(8),
      platformCertificates: some(9),
      amdCertificates: some(10),
    }),
  KVM_SEV_SEND_UPDATE_DATA: (target) => new SevMigration(target).sendUpdateData(packet()),
  KVM_SEV_SEND_UPDATE_VMSA: (target) => new SevMigration(target).sendUpdateVmsa(),
  KVM_SEV_SEND_FINISH: (target) => new SevMigration(target).sendFinish(),
  KVM_SEV_SEND_CANCEL: (target) => new SevMigration(target).sendCancel(),
  KVM_SEV_RECEIVE_START: (target) =>
    new SevMigration(target).receiveStart({ policy: 1, pdhCertificate: some(8), session: some(9) }),
  KVM_SEV_RECEIVE_UPDATE_DATA: (target) => new SevMigration(target).receiveUpdateData(packet()),
  KVM_SEV_RECEIVE_UPDATE_VMSA: (target) => new SevMigration(target).receiveUpdateVmsa(),
  KVM_SEV_RECEIVE_FINISH: (target) => new SevMigration(target).receiveFinish(),
  KVM_SEV_CERT_EXPORT: (target) => new SevMigration(target).certExport(),
  KVM_SEV_SNP_LAUNCH_START: (target) => new Snp(target).launchStart({ policy: 0x3_0000n }),
  KVM_SEV_SNP_LAUNCH_UPDATE: (target) =>
    new Snp(target).launchUpdate({ gpa: 0, data: some(4096), type: 1 }),
  KVM_SEV_SNP_LAUNCH_FINISH: (target) =>
    new Snp(target).launchFinish({ idBlock: some(96), idAuth: some(4096), hostData: some(32) }),
  KVM_SEV_SNP_ENABLE_REQ_CERTS: (target) => new Snp(target).enableReqCerts(),
}
const tdx: Commands = {
  KVM_TDX_CAPABILITIES: (target) => new Tdx(target).capabilities(),
  KVM_TDX_INIT_VM: (target) =>
    new Tdx(target).initVm({
      attributes: 0n,
      xfam: 3n,
      mrconfigid: [0n, 0n, 0n, 0n, 0n, 0n],
      mrowner: [0n, 0n, 0n, 0n, 0n, 0n],
      mrownerconfig: [0n, 0n, 0n, 0n, 0n, 0n],
      cpuid: kvm.getSupportedCpuid(),
    }),
  KVM_TDX_FINALIZE_VM: (target) => new Tdx(target).finalizeVm(),
}

describe.each(Object.entries({ ...sev, ...tdx }))('%s', (name, issue) => {
  test('of a plain VM is refused, by its name', () => {
    const error = thrownBy(() => issue(vm)) as Error & { ioctl: string }
    expect(error).toMatchObject({ code: 'ENOTTY', ioctl: `KVM_MEMORY_ENCRYPT_OP ${name}` })
    expect(error.message).toContain(name.startsWith('KVM_TDX') ? 'TDX' : 'SEV')
  })

  test('has the struct that the headers say, and no address in it', () => {
    const commands: EncryptCommand[] = []
    issue({
      memoryEncryptOp: (command) => {
        commands.push(command)
        // As the kernel would end it: nothing left to do, nothing to be fetched.
        if (name === 'KVM_SEV_SNP_LAUNCH_UPDATE') command.struct!.fill(0)
      },
    })
    const layout = layoutOf(name)
    for (const { struct, buffers = [] } of commands) {
      expect(struct!.length).toBeGreaterThanOrEqual(layout?.size ?? 0)
      const addresses = Object.entries(layout?.fields ?? {}).filter(([field]) =>
        /_uaddr$|^uaddr$/.test(field),
      )
      expect(buffers).toHaveLength(addresses.length)
      for (const [, { offset }] of addresses) {
        expect(struct!.subarray(offset, offset + 8).every((byte) => byte === 0)).toBe(true)
      }
    }
  })
})

/** Commands whose struct has another name, or that have none. */
const byName: Record<string, StructLayout | undefined> = {
  KVM_SEV_INIT: undefined,
  KVM_SEV_INIT2: layouts.kvm_sev_init,
  KVM_SEV_DBG_DECRYPT: layouts.kvm_sev_dbg,
  KVM_SEV_DBG_ENCRYPT: layouts.kvm_sev_dbg,
  KVM_SEV_GET_ATTESTATION_REPORT: layouts.kvm_sev_attestation_report,
}
const layoutOf = (name: string): StructLayout | undefined =>
  Object.hasOwn(byName, name)
    ? byName[name]
    : (layouts as Readonly<Record<string, StructLayout>>)[name.toLowerCase()]
const withoutStruct = ['KVM_SEV_INIT', 'KVM_SEV_ES_INIT']

test('a command without a struct gives none', () => {
  for (const name of withoutStruct) {
    sev[name]!({ memoryEncryptOp: ({ struct }) => expect(struct).toHaveLength(0) })
  }
})

describe('lengths', () => {
  const command = (struct: Uint8Array, buffers: (Uint8Array | null)[]): EncryptCommand => ({
    family: 'sev',
    name: 'KVM_SEV_LAUNCH_UPDATE_DATA',
    id: 3,
    struct,
    buffers,
  })

  test('a buffer shorter than its struct says never reaches the kernel', () => {
    const struct = new Uint8Array(16)
    new DataView(struct.buffer).setUint32(8, 65, true)
    expect(codeOf(() => vm.memoryEncryptOp(command(struct, [some(64)])))).toBe('EFAULT')
    expect(codeOf(() => vm.memoryEncryptOp(command(struct, [some(65)])))).toBe('ENOTTY')
  })

  test('nor does a struct that is too short', () => {
    expect(codeOf(() => vm.memoryEncryptOp(command(new Uint8Array(15), [])))).toBe('EFAULT')
  })

  test('nor a CPUID table shorter than its count', () => {
    const struct = new Uint8Array(264 + 40)
    const issue = () =>
      vm.memoryEncryptOp({ family: 'tdx', name: 'KVM_TDX_INIT_VM', id: 1, struct })
    new DataView(struct.buffer).setUint32(256, 2, true)
    expect(codeOf(issue)).toBe('EFAULT')
    new DataView(struct.buffer).setUint32(256, 1, true)
    expect(codeOf(issue)).toBe('ENOTTY')
  })

  test('the firmware is a file', () => {
    const firmware = PlainFile.open('/dev/null', { writable: true })
    expect(codeOf(() => new Sev(vm, firmware).init2())).toBe('ENOTTY')
    firmware.close()
    expect(codeOf(() => new Sev(vm, firmware).init2())).toBe('ERR_KVM_CLOSED')
    expect(codeOf(() => new Sev(vm, {} as PlainFile).init2())).toBe('ERR_INVALID_ARG_TYPE')
  })
})

test('a command that gives bytes asks how many first', () => {
  const lengths: number[] = []
  const measure = new Sev({
    memoryEncryptOp: ({ struct, buffers }) => {
      const length = new DataView(struct!.buffer, struct!.byteOffset)
      lengths.push(length.getUint32(8, true))
      if (lengths.length === 1) {
        length.setUint32(8, 48, true)
        throw new Error('the firmware calls a length of 0 invalid')
      }
      buffers![0]!.fill(7)
    },
  }).launchMeasure()
  expect(lengths).toEqual([0, 48])
  expect(measure).toEqual(new Uint8Array(48).fill(7))
})

test('pages that were taken in parts are all given', () => {
  const seen: [gfn: bigint, length: number][] = []
  new Snp({
    memoryEncryptOp: ({ struct, buffers }) => {
      const fields = new DataView(struct!.buffer, struct!.byteOffset)
      seen.push([fields.getBigUint64(0, true), buffers![0]!.length])
      fields.setBigUint64(16, fields.getBigUint64(16, true) - 4096n, true)
    },
  }).launchUpdate({ gpa: 0x5000, data: some(3 * 4096), type: 1 })
  expect(seen).toEqual([
    [5n, 3 * 4096],
    [6n, 2 * 4096],
    [7n, 4096],
  ])
})

describe('regions', () => {
  test('of a plain VM are refused', () => {
    const region = { memory, address: 0x1000, size: 0x2000 }
    const error = thrownBy(() => vm.memoryEncryptRegRegion(region))
    expect(error).toMatchObject({ code: 'ENOTTY', gpa: 0x1000, size: 0x2000 })
    expect(codeOf(() => vm.memoryEncryptUnregRegion(region))).toBe('ENOTTY')
  })

  test('are whole pages of RAM', () => {
    const region = { memory, address: 0, size: 0x1000 }
    for (const [change, code] of [
      [{ address: 1 }, 'ERR_OUT_OF_RANGE'],
      [{ size: 1 }, 'ERR_OUT_OF_RANGE'],
      [{ size: 0 }, 'ERR_OUT_OF_RANGE'],
      [{ address: 0x1_0000 }, 'ERR_KVM_GUEST_FAULT'],
      [{ memory: {} as GuestMemory }, 'ERR_INVALID_ARG_TYPE'],
    ] as const) {
      expect(codeOf(() => vm.memoryEncryptRegRegion({ ...region, ...change }))).toBe(code)
    }
  })
})
