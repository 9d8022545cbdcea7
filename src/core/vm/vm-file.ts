// The bottom of the chain of classes that make up a Vm, one topic a file: the file and what it can do.

import type { Attachment, Binding, FileHandle, VmHandle } from '../../binding.js'
import {
  decodeKvmEnableCap,
  KVM_CAP_DIRTY_LOG_RING,
  KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
  KVM_CAP_ENABLE_CAP_VM,
  KVM_CHECK_EXTENSION,
  KVM_ENABLE_CAP,
  type StructView,
} from '../../uapi/index.js'
import type {
  CapabilityParameters,
  VmCapabilityArguments,
  VmCapabilityName,
} from '../capabilities/capability-arguments.js'
import { type CapabilityEncoder, vmCapabilities } from '../capabilities/capability-encoders.js'
import {
  type CapabilityName,
  capabilityNumber,
  capabilityText,
} from '../capabilities/capability-number.js'
import {
  capabilityDetails,
  type EnableCap,
  encodeCapability,
  encodeRawCapability,
} from '../capabilities/enable-cap.js'
import { FileCapabilities } from '../capabilities/file-capabilities.js'
import { withDraft } from '../draft.js'
import { check, type KvmErrorDetails, kvmError } from '../errors.js'
import { KvmFile } from '../file.js'
import type { Kvm } from '../kvm.js'
import { PlainFile } from '../plain-file.js'
import { invalidArgType, object, uint32 } from '../validate.js'

// Set by the class itself, which alone can tell a VM from a look-alike.
let vmHandle: (value: unknown) => FileHandle
let dirtyRings: (vm: VmFile) => DirtyRings

/** @internal What is known of the dirty rings of a VM's vCPUs. */
export interface DirtyRings {
  /** The VM's native object. */
  readonly handle: FileHandle
  /** Bytes of each ring; 0 without rings. There is no way to ask the kernel. */
  size: number
  /** How often they were reset. */
  resets: number
}

/** @internal */
export const dirtyRingsOf = (vm: VmFile) => dirtyRings(vm)

/** A VM's file. */
export abstract class VmFile extends KvmFile {
  /** The `/dev/kvm` it was created from. */
  readonly kvm: Kvm
  /** @internal Names a missing capability before the ioctl is tried. */
  protected readonly capabilities: FileCapabilities
  /** @internal The scratch memory. */
  protected readonly view: StructView
  readonly #handle: VmHandle
  readonly #chosen: Uint32Array
  readonly #slot: number
  readonly #issue: () => number | undefined
  readonly #dirtyRings: DirtyRings

  /** @internal */
  protected constructor(native: Binding, handle: VmHandle, kvm: Kvm) {
    super(native, handle)
    this.kvm = kvm
    this.view = native.view
    this.#handle = handle
    this.#chosen = native.chosen
    this.#slot = handle.slot
    this.#issue = native.issueVm
    this.#dirtyRings = { handle, size: 0, resets: 0 }
    this.capabilities = new FileCapabilities((capability) => this.checkExtension(capability))
  }

  /** @internal The quicker way for what needs no argument but the scratch memory. */
  protected override request(
    request: number,
    name: string,
    argument?: number | ArrayBuffer,
    details?: KvmErrorDetails,
  ): number {
    if (argument !== undefined) return super.request(request, name, argument, details)
    const result = this.issue(request)
    return result < 0 ? check(result, name, details) : result
  }

  /** @internal The result of a request with its struct in the scratch memory. */
  protected issue(request: number): number {
    const chosen = this.#chosen
    chosen[0] = this.#slot
    chosen[1] = request
    return this.#issue() ?? 0
  }

  /** @internal Throws what {@link issue} failed with. */
  protected issueError(result: number, name: string, capability: number, details: KvmErrorDetails) {
    this.capabilities.require(capability)
    return kvmError(result, { ioctl: name, ...details })
  }

  /**
   * What KVM says of a capability for this VM: 0 when it is absent, else 1 or a value with the
   * capability's own meaning.
   *
   * @param capability Its kernel name (`KVM_CAP_IRQCHIP`) or its number.
   * @ioctl KVM_CHECK_EXTENSION (KVM API 4.4)
   * @capability KVM_CAP_CHECK_EXTENSION_VM
   */
  checkExtension(capability: CapabilityName | number): number {
    const number = capabilityNumber(capability)
    return this.request(KVM_CHECK_EXTENSION, 'KVM_CHECK_EXTENSION', number)
  }

  /**
   * Turns a capability on for this VM: by name with its arguments named, or by number with the four
   * words the kernel takes, for capabilities newer than this library.
   *
   * @returns What the ioctl returned, 0 unless the capability says otherwise.
   * @ioctl KVM_ENABLE_CAP (KVM API 4.37)
   * @capability KVM_CAP_ENABLE_CAP_VM
   * @throws KvmError `ERR_KVM_CAP_MISSING` for a named capability that the kernel lacks; else the
   *   kernel's own, explained. A number whose argument is an address or a descriptor is refused with
   *   `ENOTTY`: use the name.
   */
  enableCap<Name extends VmCapabilityName>(
    capability: Name,
    ...args: CapabilityParameters<VmCapabilityArguments[Name]>
  ): number
  enableCap(capability: number, options?: EnableCap): number
  enableCap(capability: string | number, args: object = {}): number {
    if (typeof capability === 'string') return this.#enableNamed(capability, args)
    uint32(capability, 'capability')
    let size = 0n
    const result = this.send(
      KVM_ENABLE_CAP,
      'KVM_ENABLE_CAP',
      (draft) => {
        encodeRawCapability(draft, capability, args)
        size = decodeKvmEnableCap(draft, 0).args[0]!
      },
      capabilityDetails(uint32(capability, 'capability')),
    )
    this.#noteEnabled(capability, size)
    return result
  }

  #noteEnabled(capability: number, argument: bigint | undefined): void {
    if (capability !== KVM_CAP_DIRTY_LOG_RING && capability !== KVM_CAP_DIRTY_LOG_RING_ACQ_REL)
      return
    this.#dirtyRings.size = Number(argument)
  }

  #enableNamed(name: string, args: object): number {
    const number = capabilityNumber(name as CapabilityName)
    const file = fileOf(name, object(args, 'args'))
    this.capabilities.require(KVM_CAP_ENABLE_CAP_VM)
    if (file !== undefined) return this.#enableWithFile(number, file)
    const encoder = encoderOf(name)
    const values = encoder.encode(args)
    this.capabilities.require(number)
    const offered = encoder.mask ? this.checkExtension(number) : 0
    const result = this.send(
      KVM_ENABLE_CAP,
      'KVM_ENABLE_CAP',
      (draft) => encodeCapability(draft, number, values),
      capabilityDetails(number, encoder, offered),
    )
    this.#noteEnabled(number, values[0])
    return result
  }

  #enableWithFile(capability: number, { source, file }: FileArgument): number {
    const handle = source === undefined ? PlainFile.handleOf(file, 'args.file') : vmHandle(source)
    this.capabilities.require(capability)
    const result = this.native.enableCapFile(this.handle, capability, handle)
    return check(result, 'KVM_ENABLE_CAP', { capability: capabilityText(capability) })
  }

  static {
    dirtyRings = (vm) => {
      if (vm !== null && typeof vm === 'object' && #dirtyRings in vm) return vm.#dirtyRings
      throw invalidArgType('vm', 'an instance of Vm', vm)
    }
    vmHandle = (value) => {
      if (value !== null && typeof value === 'object' && #handle in value) return value.#handle
      throw invalidArgType('args.source', 'an instance of Vm', value)
    }
  }

  /**
   * @internal Issues a request whose struct holds addresses or descriptors: `encode` writes the rest
   * of it, `size` bytes long, and `attachments` are what those fields refer to, in their order.
   */
  protected sendPointers(
    request: number,
    name: string,
    size: number,
    encode: (draft: StructView) => void,
    attachments: readonly Attachment[],
    details?: KvmErrorDetails,
  ): number {
    return withDraft((draft) => {
      draft.u8.fill(0, 0, size)
      encode(draft)
      const struct = draft.u8.subarray(0, size)
      const result = this.native.pointerRequest(this.handle, request, struct, attachments)
      return check(result, name, details)
    })
  }
}

interface FileArgument {
  source?: unknown
  file?: unknown
}

/** The argument of the capabilities that take a file; undefined for the others. */
function fileOf(name: string, args: FileArgument): FileArgument | undefined {
  switch (name) {
    case 'KVM_CAP_SGX_ATTRIBUTE':
      return { file: args.file }
    case 'KVM_CAP_VM_COPY_ENC_CONTEXT_FROM':
    case 'KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM':
      return { source: args.source ?? null }
    default:
      return undefined
  }
}

function encoderOf(name: string): CapabilityEncoder<unknown> {
  const encoders = vmCapabilities as Readonly<Record<string, CapabilityEncoder<never>>>
  const encoder = Object.hasOwn(encoders, name) ? encoders[name] : undefined
  if (encoder !== undefined) return encoder as CapabilityEncoder<unknown>
  throw invalidArgType('capability', 'one that can be enabled for a VM', name)
}
