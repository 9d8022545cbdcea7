// AMD SEV: sending an encrypted guest to another host, and receiving one. Sources as in sev.ts.

import {
  decodeKvmSevReceiveStart,
  encodeKvmSevReceiveStart,
  encodeKvmSevReceiveUpdateData,
  encodeKvmSevSendStart,
  encodeKvmSevSendUpdateData,
  KVM_SEV_CERT_EXPORT,
  KVM_SEV_RECEIVE_FINISH,
  KVM_SEV_RECEIVE_START,
  KVM_SEV_RECEIVE_UPDATE_DATA,
  KVM_SEV_RECEIVE_UPDATE_VMSA,
  KVM_SEV_SEND_CANCEL,
  KVM_SEV_SEND_FINISH,
  KVM_SEV_SEND_START,
  KVM_SEV_SEND_UPDATE_DATA,
  KVM_SEV_SEND_UPDATE_VMSA,
  type StructView,
} from '../../uapi/index.js'
import type { PlainFile } from '../plain-file.js'
import { bytes, object } from '../validate.js'
import { type EncryptTarget, encryptStruct } from './encrypt-command.js'
import type { SevPacket } from './sev.js'
import { SevCommands } from './sev-commands.js'

/** What {@link SevMigration.sendStart} takes. */
export interface SevSendStart {
  policy: number
  /** Platform Diffie-Hellman key of the other host. */
  pdhCertificate: Uint8Array
  /** The other host's platform certificates. */
  platformCertificates: Uint8Array
  /** AMD's certificates. */
  amdCertificates: Uint8Array
}

/** What {@link SevMigration.receiveStart} takes. */
export interface SevReceiveStart {
  policy: number
  /** A guest to share the key with; 0: a new one. */
  handle?: number
  /** Platform Diffie-Hellman key of the sending host. */
  pdhCertificate: Uint8Array
  /** What {@link SevMigration.sendStart} gave there. */
  session: Uint8Array
}

/** The commands that move an SEV guest. */
export class SevMigration extends SevCommands {
  /** @param firmware `/dev/sev`, opened for writing. */
  constructor(vm: EncryptTarget, firmware?: PlainFile) {
    super(vm, firmware)
  }

  /** Makes the transport keys. `KVM_SEV_SEND_START` @returns The session, for the other host. */
  sendStart(options: SevSendStart): Uint8Array {
    const { policy, pdhCertificate, platformCertificates, amdCertificates } = object(
      options,
      'options',
    )
    const pdh = bytes(pdhCertificate, 'options.pdhCertificate')
    const plat = bytes(platformCertificates, 'options.platformCertificates')
    const amd = bytes(amdCertificates, 'options.amdCertificates')
    const encode = (session: number) => (view: StructView) =>
      encodeKvmSevSendStart(view, 0, {
        policy,
        pdh_cert_uaddr: 0n,
        pdh_cert_len: pdh.length,
        plat_certs_uaddr: 0n,
        plat_certs_len: plat.length,
        amd_certs_uaddr: 0n,
        amd_certs_len: amd.length,
        session_uaddr: 0n,
        session_len: session,
      })
    const length = this.#sessionLength(encryptStruct(72, encode(0)))
    const session = new Uint8Array(length)
    const buffers = [pdh, plat, amd, session]
    this.issue('KVM_SEV_SEND_START', KVM_SEV_SEND_START, 72, encode(length), buffers)
    return session
  }

  // Asked with a length of 0, the command says how long the session is, whether or not it fails.
  #sessionLength(query: ReturnType<typeof encryptStruct>): number {
    const lengthAt = 64 / 4
    let failure: unknown
    try {
      this.reissue('KVM_SEV_SEND_START', KVM_SEV_SEND_START, query, [null, null, null, null])
    } catch (error) {
      failure = error
    }
    const length = query.view.u32[lengthAt]!
    if (length === 0 && failure !== undefined) throw failure
    return length
  }

  /** Encrypts guest RAM for the transport. `KVM_SEV_SEND_UPDATE_DATA` */
  sendUpdateData(packet: SevPacket): void {
    this.#packet('KVM_SEV_SEND_UPDATE_DATA', KVM_SEV_SEND_UPDATE_DATA, packet)
  }

  /** Ends the transport. `KVM_SEV_SEND_FINISH` */
  sendFinish(): void {
    this.issue('KVM_SEV_SEND_FINISH', KVM_SEV_SEND_FINISH)
  }

  /** Gives the transport up: the guest may run again here. `KVM_SEV_SEND_CANCEL` */
  sendCancel(): void {
    this.issue('KVM_SEV_SEND_CANCEL', KVM_SEV_SEND_CANCEL)
  }

  /** Makes the key of a guest that comes. `KVM_SEV_RECEIVE_START` @returns The guest's handle. */
  receiveStart(options: SevReceiveStart): number {
    const { policy, handle = 0, pdhCertificate, session } = object(options, 'options')
    const pdh = bytes(pdhCertificate, 'options.pdhCertificate')
    const given = bytes(session, 'options.session')
    const { view } = this.issue(
      'KVM_SEV_RECEIVE_START',
      KVM_SEV_RECEIVE_START,
      40,
      (draft) =>
        encodeKvmSevReceiveStart(draft, 0, {
          handle,
          policy,
          pdh_uaddr: 0n,
          pdh_len: pdh.length,
          session_uaddr: 0n,
          session_len: given.length,
        }),
      [pdh, given],
    )
    return decodeKvmSevReceiveStart(view, 0).handle
  }

  /** Takes guest RAM from the transport. `KVM_SEV_RECEIVE_UPDATE_DATA` */
  receiveUpdateData(packet: SevPacket): void {
    this.#packet('KVM_SEV_RECEIVE_UPDATE_DATA', KVM_SEV_RECEIVE_UPDATE_DATA, packet)
  }

  /** Makes the guest that came ready to run. `KVM_SEV_RECEIVE_FINISH` */
  receiveFinish(): void {
    this.issue('KVM_SEV_RECEIVE_FINISH', KVM_SEV_RECEIVE_FINISH)
  }

  /** `KVM_SEV_SEND_UPDATE_VMSA` @deprecated A number only: no kernel has it. */
  sendUpdateVmsa(): void {
    this.issue('KVM_SEV_SEND_UPDATE_VMSA', KVM_SEV_SEND_UPDATE_VMSA)
  }

  /** `KVM_SEV_RECEIVE_UPDATE_VMSA` @deprecated A number only: no kernel has it. */
  receiveUpdateVmsa(): void {
    this.issue('KVM_SEV_RECEIVE_UPDATE_VMSA', KVM_SEV_RECEIVE_UPDATE_VMSA)
  }

  /** `KVM_SEV_CERT_EXPORT` @deprecated A number only: no kernel has it. */
  certExport(): void {
    this.issue('KVM_SEV_CERT_EXPORT', KVM_SEV_CERT_EXPORT)
  }

  #packet(name: string, id: number, packet: SevPacket): void {
    const { header, guest, transport } = object(packet, 'packet')
    const lengths = {
      hdr_uaddr: 0n,
      hdr_len: bytes(header, 'packet.header').length,
      guest_uaddr: 0n,
      guest_len: bytes(guest, 'packet.guest').length,
      trans_uaddr: 0n,
      trans_len: bytes(transport, 'packet.transport').length,
    }
    const encode =
      id === KVM_SEV_SEND_UPDATE_DATA ? encodeKvmSevSendUpdateData : encodeKvmSevReceiveUpdateData
    this.issue(name, id, 48, (view) => encode(view, 0, lengths), [header, guest, transport])
  }
}
