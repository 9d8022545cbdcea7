// KVM_MEMORY_ENCRYPT_OP: one request for the commands of two families, AMD's SEV and Intel's TDX.

import { StructView } from '../../uapi/index.js'
import type { PlainFile } from '../plain-file.js'

/** A command for {@link Vm.memoryEncryptOp}. {@link Sev}, {@link Snp} and {@link Tdx} make them. */
export interface EncryptCommand {
  /** Whose command it is: the numbers of the two overlap. */
  family: 'sev' | 'tdx'
  /** `KVM_SEV_*` or `KVM_TDX_*`, for messages. */
  name: string
  /** Its number. */
  id: number
  /** Of a TDX command; 0 unless said. */
  flags?: number
  /** The command's struct, which the kernel may change; none unless given. Its addresses are zero. */
  struct?: Uint8Array
  /**
   * What the struct's addresses refer to, in the order of its fields; null for none. Guest RAM comes
   * from {@link GuestMemory.view}. Lengths in the struct must not exceed theirs.
   */
  buffers?: readonly (Uint8Array | null)[]
  /** `/dev/sev`, for SEV commands that ask the firmware. */
  firmware?: PlainFile | undefined
}

/** What issues commands: a VM. */
export interface EncryptTarget {
  /** Issues KVM_MEMORY_ENCRYPT_OP. */
  memoryEncryptOp(command: EncryptCommand): void
}

/** A struct for a command. */
export interface EncryptStruct {
  readonly view: StructView
  readonly bytes: Uint8Array
}

/** An empty struct of `size` bytes, filled by `encode`. */
export function encryptStruct(size: number, encode: (view: StructView) => void): EncryptStruct {
  const view = new StructView(size)
  encode(view)
  return { view, bytes: view.u8.subarray(0, size) }
}
