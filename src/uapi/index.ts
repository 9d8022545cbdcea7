// The kernel's words: constants, requests, structure layouts and codecs of the KVM API on x86-64.
// Nearly all of it is generated; see tools/generate.

export { type CodedError, invalidArgType, invalidArgValue, outOfRange } from './errors.js'
export * from './generated/constants.js'
export * from './generated/layouts.js'
export * from './generated/requests.js'
export * from './generated/structs.js'
export { capabilityName, exitName, requestName } from './names.js'
export type { RequestInfo } from './request-info.js'
export type { FieldLayout, FieldType, StructLayout } from './struct-layout.js'
export { StructView } from './struct-view.js'
