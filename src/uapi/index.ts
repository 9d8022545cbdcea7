// The kernel's words: constants, requests, structure layouts and codecs of the KVM API on x86-64.
// Nearly all of it is generated; see tools/generate.
//
// Every structure has an interface (`KvmRegs`), a decoder and an encoder over a `StructView`
// (`decodeKvmRegs`, `encodeKvmRegs`) and a layout (`layouts.kvm_regs`). Names are the kernel's. Fields
// of 64 bits are bigint, except guest-physical addresses, sizes and counts, which are numbers; arrays
// of bytes are Uint8Array, others arrays. Padding is left out and encoded as zero. Encoders check
// every value before they write the first, and throw ERR_INVALID_ARG_TYPE or ERR_OUT_OF_RANGE.
//
// Unions. Where a field beside it tells which member applies (kvm_irq_routing_entry.type), the decoder
// gives that member, or `raw` bytes for a value it does not know; elsewhere it gives every member. The
// encoder takes whichever member is given; of several it asks that they describe the same bytes
// (ERR_INVALID_ARG_VALUE), and with none it writes zeros.
//
// Flexible arrays have codecs of their own (`decodeKvmCpuid2Entries`), which take the offset of the
// structure before them and neither read nor write its count.

export { type CodedError, invalidArgType, invalidArgValue, outOfRange } from './errors.js'
export * from './generated/constants.js'
export * from './generated/layouts.js'
export * from './generated/requests.js'
export * from './generated/structs.js'
export { capabilityName, exitName, requestName } from './names.js'
export type { RequestInfo } from './request-info.js'
export type { FieldLayout, FieldType, StructLayout } from './struct-layout.js'
export { StructView } from './struct-view.js'
