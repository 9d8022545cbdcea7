// How the commands of SEV and SEV-SNP are issued.

import type { StructView } from '../../uapi/index.js'
import type { PlainFile } from '../plain-file.js'
import { type EncryptStruct, type EncryptTarget, encryptStruct } from './encrypt-command.js'

/** Base of the classes whose methods are SEV commands. */
export abstract class SevCommands {
  readonly #target: EncryptTarget
  readonly #firmware: PlainFile | undefined

  protected constructor(target: EncryptTarget, firmware?: PlainFile) {
    this.#target = target
    this.#firmware = firmware
  }

  /** @internal Issues a command; gives its struct as the kernel left it. */
  protected issue(
    name: string,
    id: number,
    size = 0,
    encode: (view: StructView) => void = () => {},
    buffers: readonly (Uint8Array | null)[] = [],
  ): EncryptStruct {
    const struct = encryptStruct(size, encode)
    this.reissue(name, id, struct, buffers)
    return struct
  }

  /** @internal The same with a struct at hand. */
  protected reissue(
    name: string,
    id: number,
    struct: EncryptStruct,
    buffers: readonly (Uint8Array | null)[],
  ): void {
    this.#target.memoryEncryptOp({
      family: 'sev',
      name,
      id,
      struct: struct.bytes,
      buffers,
      firmware: this.#firmware,
    })
  }

  /**
   * @internal A command that gives as many bytes as it says when it is asked with a length of 0; the
   * length is the 32-bit word at `lengthAt`.
   */
  protected fetch(
    name: string,
    id: number,
    size: number,
    lengthAt: number,
    encode: (view: StructView, length: number) => void,
  ): Uint8Array {
    const query = encryptStruct(size, (view) => encode(view, 0))
    // KERNEL: the query fails (the firmware calls the length invalid), but the length is there.
    try {
      this.reissue(name, id, query, [null])
    } catch (error) {
      if (query.view.u32[lengthAt / 4] === 0) throw error
    }
    const out = new Uint8Array(query.view.u32[lengthAt / 4]!)
    const struct = this.issue(name, id, size, (view) => encode(view, out.length), [out])
    return out.subarray(0, struct.view.u32[lengthAt / 4])
  }
}
