// Guests whose memory is encrypted: SEV and TDX.

import type { EncryptCommand } from '../confidential/encrypt-command.js'
import { check, KvmError, type KvmErrorDetails } from '../errors.js'
import { GuestMemory } from '../memory.js'
import { PlainFile } from '../plain-file.js'
import { bytes as checkBytes, integer, list, object, outOfRange, uint32 } from '../validate.js'
import { VmXen } from './vm-xen.js'

const PAGE = 4096
const NOTHING = new Uint8Array()

/** What {@link Vm.memoryEncryptRegRegion} takes: a range of guest RAM. */
export interface EncryptedRegion {
  memory: GuestMemory
  /** Address in `memory`, a multiple of 4096. */
  address: number
  /** Bytes, a multiple of 4096. */
  size: number
}

/** Encryption of a VM. */
export abstract class VmConfidential extends VmXen {
  /**
   * Issues a command of SEV or TDX. {@link Sev}, {@link Snp} and {@link Tdx} have a method for each.
   *
   * @ioctl KVM_MEMORY_ENCRYPT_OP (KVM API 4.110)
   * @throws KvmError `ENOTTY` when the VM is of another type or the host has nothing of the kind;
   *   else with what the firmware or the TDX module said.
   */
  memoryEncryptOp(command: EncryptCommand): void {
    const { family, name, id, flags = 0, struct, buffers, firmware } = object(command, 'command')
    uint32(id, 'command.id')
    uint32(flags, 'command.flags')
    const bytes = struct === undefined ? NOTHING : checkBytes(struct, 'command.struct')
    const attachments = list(buffers ?? [], 'command.buffers').map((buffer) =>
      buffer === null ? null : checkBytes(buffer, 'command.buffers'),
    )
    const device = firmware === undefined ? null : PlainFile.handleOf(firmware, 'command.firmware')
    const tdx = family === 'tdx' ? 1 : 0
    const result = this.native.memoryEncryptOp(
      this.handle,
      tdx,
      id,
      flags,
      bytes,
      attachments,
      device,
    )
    if (result < 0) check(result, `KVM_MEMORY_ENCRYPT_OP ${name}`, this.#explain(family))
  }

  #explain(family: string): KvmErrorDetails {
    const vendor = family === 'tdx' ? 'TDX' : 'SEV'
    const said = this.native.view.u64[0]!
    const reasons = { ENOTTY: `this VM has no ${vendor}: see KVM_CAP_VM_TYPES and createVm` }
    return said === 0n
      ? { reasons }
      : { reason: `${family === 'tdx' ? 'TDX module' : 'SEV firmware'}: 0x${said.toString(16)}` }
  }

  /**
   * Pins RAM that may hold encrypted pages, so that the host never moves them. The RAM is kept until
   * it is unregistered or the VM is gone.
   *
   * @ioctl KVM_MEMORY_ENCRYPT_REG_REGION (KVM API 4.111)
   * @throws KvmError `ENOTTY` when the VM is not encrypted.
   */
  memoryEncryptRegRegion(region: EncryptedRegion): void {
    this.#region(1, 'KVM_MEMORY_ENCRYPT_REG_REGION', region)
  }

  /**
   * Unpins what {@link memoryEncryptRegRegion} pinned; the same range.
   *
   * @ioctl KVM_MEMORY_ENCRYPT_UNREG_REGION (KVM API 4.112)
   */
  memoryEncryptUnregRegion(region: EncryptedRegion): void {
    this.#region(0, 'KVM_MEMORY_ENCRYPT_UNREG_REGION', region)
  }

  #region(add: 0 | 1, ioctl: string, region: EncryptedRegion): void {
    const { memory, address, size } = object(region, 'region')
    if (integer(address, 'region.address') % PAGE || integer(size, 'region.size', 1) % PAGE) {
      throw outOfRange('region', 'aligned to 4096 in address and size', address % PAGE || size)
    }
    const found = GuestMemory.check(memory, 'region.memory').regions.find(
      (part) => address >= part.gpa && address + size <= part.gpa + part.size,
    )
    const place = { ioctl, gpa: address, size }
    if (found === undefined) {
      throw new KvmError('ERR_KVM_GUEST_FAULT', undefined, 'not in one region of the memory', place)
    }
    const { native, handle } = this
    const result = native.encryptedRegion(handle, add, found.handle, address - found.gpa, size)
    check(result, ioctl, { ...place, reasons: { ENOTTY: 'this VM is not encrypted' } })
  }
}
