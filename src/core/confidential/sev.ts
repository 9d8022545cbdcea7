// AMD SEV and SEV-ES: launching a guest whose memory is encrypted. Sources: KVM's
// Documentation/virt/kvm/x86/amd-memory-encryption.rst; SEV API specification (AMD 55766).

import {
  decodeKvmSevGuestStatus,
  decodeKvmSevLaunchStart,
  encodeKvmSevAttestationReport,
  encodeKvmSevDbg,
  encodeKvmSevInit,
  encodeKvmSevLaunchMeasure,
  encodeKvmSevLaunchSecret,
  encodeKvmSevLaunchStart,
  encodeKvmSevLaunchUpdateData,
  KVM_SEV_DBG_DECRYPT,
  KVM_SEV_DBG_ENCRYPT,
  KVM_SEV_ES_INIT,
  KVM_SEV_GET_ATTESTATION_REPORT,
  KVM_SEV_GUEST_STATUS,
  KVM_SEV_INIT,
  KVM_SEV_INIT2,
  KVM_SEV_LAUNCH_FINISH,
  KVM_SEV_LAUNCH_MEASURE,
  KVM_SEV_LAUNCH_SECRET,
  KVM_SEV_LAUNCH_START,
  KVM_SEV_LAUNCH_UPDATE_DATA,
  KVM_SEV_LAUNCH_UPDATE_VMSA,
  type KvmSevGuestStatus,
} from '../../uapi/index.js'
import type { PlainFile } from '../plain-file.js'
import { bytes, object, outOfRange } from '../validate.js'
import type { EncryptTarget } from './encrypt-command.js'
import { SevCommands } from './sev-commands.js'

const EMPTY = new Uint8Array()

/** What {@link Sev.init2} takes. */
export interface SevInit {
  /** VMSA feature bits, as the system's attribute `KVM_X86_SEV_VMSA_FEATURES` offers them. */
  vmsaFeatures?: bigint
  /** Must be 0. */
  flags?: number
  /** Highest version of the GHCB protocol; 0: the kernel's own choice. */
  ghcbVersion?: number
}

/** What {@link Sev.launchStart} takes. */
export interface SevLaunchStart {
  /** Guest policy. */
  policy: number
  /** A guest to share the key with; 0: a new one. */
  handle?: number
  /** The guest owner's Diffie-Hellman certificate. */
  dhCertificate?: Uint8Array
  /** The guest owner's session. */
  session?: Uint8Array
}

/** Encrypted bytes that travel with their header. */
export interface SevPacket {
  header: Uint8Array
  /** The guest's memory: a view of its RAM. */
  guest: Uint8Array
  /** What is outside of the guest. */
  transport: Uint8Array
}

/** The commands that launch and inspect an SEV or SEV-ES guest. */
export class Sev extends SevCommands {
  /** @param firmware `/dev/sev`, opened for writing. */
  constructor(vm: EncryptTarget, firmware?: PlainFile) {
    super(vm, firmware)
  }

  /** Turns SEV on for a VM of its types. `KVM_SEV_INIT2` */
  init2(options: SevInit = {}): void {
    const { vmsaFeatures = 0n, flags = 0, ghcbVersion = 0 } = object(options, 'options')
    this.issue('KVM_SEV_INIT2', KVM_SEV_INIT2, 48, (view) =>
      encodeKvmSevInit(view, 0, { vmsa_features: vmsaFeatures, flags, ghcb_version: ghcbVersion }),
    )
  }

  /** Turns SEV on. `KVM_SEV_INIT` @deprecated {@link init2} */
  init(): void {
    this.issue('KVM_SEV_INIT', KVM_SEV_INIT)
  }

  /** Turns SEV-ES on. `KVM_SEV_ES_INIT` @deprecated {@link init2} */
  esInit(): void {
    this.issue('KVM_SEV_ES_INIT', KVM_SEV_ES_INIT)
  }

  /** Makes the guest's key. `KVM_SEV_LAUNCH_START` @returns The guest's handle. */
  launchStart(options: SevLaunchStart): number {
    const {
      policy,
      handle = 0,
      dhCertificate = EMPTY,
      session = EMPTY,
    } = object(options, 'options')
    const dh = bytes(dhCertificate, 'options.dhCertificate')
    const owner = bytes(session, 'options.session')
    const { view } = this.issue(
      'KVM_SEV_LAUNCH_START',
      KVM_SEV_LAUNCH_START,
      40,
      (draft) =>
        encodeKvmSevLaunchStart(draft, 0, {
          handle,
          policy,
          dh_uaddr: 0n,
          dh_len: dh.length,
          session_uaddr: 0n,
          session_len: owner.length,
        }),
      [dh, owner],
    )
    return decodeKvmSevLaunchStart(view, 0).handle
  }

  /** Encrypts a part of the guest's RAM, a view of it, in place. `KVM_SEV_LAUNCH_UPDATE_DATA` */
  launchUpdateData(data: Uint8Array): void {
    const { length } = bytes(data, 'data')
    this.issue(
      'KVM_SEV_LAUNCH_UPDATE_DATA',
      KVM_SEV_LAUNCH_UPDATE_DATA,
      16,
      (view) => encodeKvmSevLaunchUpdateData(view, 0, { uaddr: 0n, len: length }),
      [data],
    )
  }

  /** Encrypts the register state of all vCPUs. `KVM_SEV_LAUNCH_UPDATE_VMSA` */
  launchUpdateVmsa(): void {
    this.issue('KVM_SEV_LAUNCH_UPDATE_VMSA', KVM_SEV_LAUNCH_UPDATE_VMSA)
  }

  /** The measurement of what was encrypted. `KVM_SEV_LAUNCH_MEASURE` */
  launchMeasure(): Uint8Array {
    return this.fetch('KVM_SEV_LAUNCH_MEASURE', KVM_SEV_LAUNCH_MEASURE, 16, 8, (view, length) =>
      encodeKvmSevLaunchMeasure(view, 0, { uaddr: 0n, len: length }),
    )
  }

  /** Puts a secret of the guest's owner into its RAM. `KVM_SEV_LAUNCH_SECRET` */
  launchSecret(packet: SevPacket): void {
    const { header, guest, transport } = object(packet, 'packet')
    this.issue(
      'KVM_SEV_LAUNCH_SECRET',
      KVM_SEV_LAUNCH_SECRET,
      48,
      (view) =>
        encodeKvmSevLaunchSecret(view, 0, {
          hdr_uaddr: 0n,
          hdr_len: bytes(header, 'packet.header').length,
          guest_uaddr: 0n,
          guest_len: bytes(guest, 'packet.guest').length,
          trans_uaddr: 0n,
          trans_len: bytes(transport, 'packet.transport').length,
        }),
      [header, guest, transport],
    )
  }

  /** Makes the guest ready to run. `KVM_SEV_LAUNCH_FINISH` */
  launchFinish(): void {
    this.issue('KVM_SEV_LAUNCH_FINISH', KVM_SEV_LAUNCH_FINISH)
  }

  /** The guest's handle, policy and state. `KVM_SEV_GUEST_STATUS` */
  guestStatus(): KvmSevGuestStatus {
    const { view } = this.issue('KVM_SEV_GUEST_STATUS', KVM_SEV_GUEST_STATUS, 12, () => {})
    return decodeKvmSevGuestStatus(view, 0)
  }

  /** Decrypts guest RAM, where the policy allows debugging. `KVM_SEV_DBG_DECRYPT` */
  dbgDecrypt(source: Uint8Array, target: Uint8Array): void {
    this.#debug('KVM_SEV_DBG_DECRYPT', KVM_SEV_DBG_DECRYPT, source, target)
  }

  /** Encrypts into guest RAM, where the policy allows debugging. `KVM_SEV_DBG_ENCRYPT` */
  dbgEncrypt(source: Uint8Array, target: Uint8Array): void {
    this.#debug('KVM_SEV_DBG_ENCRYPT', KVM_SEV_DBG_ENCRYPT, source, target)
  }

  #debug(name: string, id: number, source: Uint8Array, target: Uint8Array): void {
    const { length } = bytes(source, 'source')
    if (bytes(target, 'target').length !== length) {
      throw outOfRange('target.length', `${length}`, target.length)
    }
    this.issue(
      name,
      id,
      24,
      (view) => encodeKvmSevDbg(view, 0, { src_uaddr: 0n, dst_uaddr: 0n, len: length }),
      [source, target],
    )
  }

  /** A signed report about the guest. `KVM_SEV_GET_ATTESTATION_REPORT` @param nonce 16 bytes. */
  getAttestationReport(nonce: Uint8Array): Uint8Array {
    if (bytes(nonce, 'nonce').length !== 16) throw outOfRange('nonce.length', '16', nonce.length)
    const name = 'KVM_SEV_GET_ATTESTATION_REPORT'
    return this.fetch(name, KVM_SEV_GET_ATTESTATION_REPORT, 32, 24, (view, length) =>
      encodeKvmSevAttestationReport(view, 0, { mnonce: nonce, uaddr: 0n, len: length }),
    )
  }
}
