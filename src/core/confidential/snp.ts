// AMD SEV-SNP: launching a guest whose memory is also protected against changes. Sources as in
// sev.ts; SEV-SNP firmware ABI specification (AMD 56860).

import {
  decodeKvmSevSnpLaunchUpdate,
  encodeKvmSevSnpLaunchFinish,
  encodeKvmSevSnpLaunchStart,
  encodeKvmSevSnpLaunchUpdate,
  KVM_SEV_SNP_ENABLE_REQ_CERTS,
  KVM_SEV_SNP_ID_AUTH_SIZE,
  KVM_SEV_SNP_ID_BLOCK_SIZE,
  KVM_SEV_SNP_LAUNCH_FINISH,
  KVM_SEV_SNP_LAUNCH_START,
  KVM_SEV_SNP_LAUNCH_UPDATE,
} from '../../uapi/index.js'
import type { PlainFile } from '../plain-file.js'
import { bytes, integer, object, outOfRange } from '../validate.js'
import type { EncryptTarget } from './encrypt-command.js'
import { SevCommands } from './sev-commands.js'

const PAGE = 4096

/** What {@link Snp.launchStart} takes. */
export interface SnpLaunchStart {
  /** Guest policy: bits of the system's attribute `KVM_X86_SNP_POLICY_BITS`. */
  policy: bigint
  /** Operating system visible workarounds, 16 bytes. */
  gosvw?: Uint8Array
  /** Must be 0. */
  flags?: number
}

/** What {@link Snp.launchUpdate} takes. */
export interface SnpLaunchUpdate {
  /** Where the pages go, a guest-physical address, a multiple of 4096. */
  gpa: number
  /** What is put there, a multiple of 4096 bytes; it is copied. For zero pages, its length counts. */
  data: Uint8Array
  /** `KVM_SEV_SNP_PAGE_TYPE_*`. */
  type: number
  /** Must be 0. */
  flags?: number
}

/** What {@link Snp.launchFinish} takes. */
export interface SnpLaunchFinish {
  /** Identity block, 96 bytes. */
  idBlock?: Uint8Array
  /** Its authentication, 4096 bytes. */
  idAuth?: Uint8Array
  /** Whether `idAuth` has an author's key. */
  authorKey?: boolean
  /** Whether the guest may not use the chip's own endorsement key. */
  vcekDisabled?: boolean
  /** 32 bytes that appear in attestation reports. */
  hostData?: Uint8Array
  /** Must be 0. */
  flags?: number
}

/** The commands that launch an SEV-SNP guest. Turn SEV on first: {@link Sev.init2}. */
export class Snp extends SevCommands {
  /** @param firmware `/dev/sev`, opened for writing. */
  constructor(vm: EncryptTarget, firmware?: PlainFile) {
    super(vm, firmware)
  }

  /** Makes the guest's key. `KVM_SEV_SNP_LAUNCH_START` */
  launchStart(options: SnpLaunchStart): void {
    const { policy, gosvw = new Uint8Array(16), flags = 0 } = object(options, 'options')
    this.issue('KVM_SEV_SNP_LAUNCH_START', KVM_SEV_SNP_LAUNCH_START, 64, (view) =>
      encodeKvmSevSnpLaunchStart(view, 0, { policy, gosvw, flags }),
    )
  }

  /** Puts measured pages into private memory. `KVM_SEV_SNP_LAUNCH_UPDATE`, until all are there. */
  launchUpdate(options: SnpLaunchUpdate): void {
    const { gpa, data, type, flags = 0 } = object(options, 'options')
    if (integer(gpa, 'options.gpa') % PAGE) {
      throw outOfRange('options.gpa', 'a multiple of 4096', gpa)
    }
    if (bytes(data, 'options.data').length % PAGE) {
      throw outOfRange('options.data.length', 'a multiple of 4096', data.length)
    }
    // KERNEL: it may stop early, for a signal, and then says what is left.
    for (let done = 0; done < data.length; ) {
      const rest = data.subarray(done)
      const { view } = this.issue(
        'KVM_SEV_SNP_LAUNCH_UPDATE',
        KVM_SEV_SNP_LAUNCH_UPDATE,
        64,
        (draft) =>
          encodeKvmSevSnpLaunchUpdate(draft, 0, {
            gfn_start: (gpa + done) / PAGE,
            uaddr: 0n,
            len: rest.length,
            type,
            flags,
          }),
        [rest],
      )
      done = data.length - decodeKvmSevSnpLaunchUpdate(view, 0).len
    }
  }

  /** Makes the guest ready to run. `KVM_SEV_SNP_LAUNCH_FINISH` */
  launchFinish(options: SnpLaunchFinish = {}): void {
    const {
      idBlock,
      idAuth,
      authorKey = false,
      vcekDisabled = false,
      flags = 0,
    } = object(options, 'options')
    const { hostData = new Uint8Array(32) } = options
    const block = exactly(idBlock, KVM_SEV_SNP_ID_BLOCK_SIZE, 'options.idBlock')
    const auth = exactly(idAuth, KVM_SEV_SNP_ID_AUTH_SIZE, 'options.idAuth')
    this.issue(
      'KVM_SEV_SNP_LAUNCH_FINISH',
      KVM_SEV_SNP_LAUNCH_FINISH,
      88,
      (view) =>
        encodeKvmSevSnpLaunchFinish(view, 0, {
          id_block_uaddr: 0n,
          id_auth_uaddr: 0n,
          id_block_en: block === null ? 0 : 1,
          auth_key_en: authorKey ? 1 : 0,
          vcek_disabled: vcekDisabled ? 1 : 0,
          host_data: hostData,
          flags,
        }),
      [block, auth],
    )
  }

  /** Makes requests for certificates exit. `KVM_SEV_SNP_ENABLE_REQ_CERTS` (Linux 7.0) */
  enableReqCerts(): void {
    this.issue('KVM_SEV_SNP_ENABLE_REQ_CERTS', KVM_SEV_SNP_ENABLE_REQ_CERTS)
  }
}

function exactly(value: Uint8Array | undefined, size: number, name: string): Uint8Array | null {
  if (value === undefined) return null
  const { length } = bytes(value, name)
  if (length !== size) throw outOfRange(`${name}.length`, `${size}`, length)
  return value
}
