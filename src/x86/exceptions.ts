// The architecture's exceptions by vector. KVM reports and injects them by number
// (kvm_vcpu_events.exception, KVM_EXIT_EXCEPTION); people read mnemonics.

/**
 * How an exception relates to the instruction that caused it: a fault restarts it, a trap comes
 * after it, an abort cannot be resumed. `#DB` is a fault or a trap depending on its cause.
 */
export type ExceptionClass = 'fault' | 'trap' | 'fault/trap' | 'abort' | 'interrupt'

/** One architectural exception. */
export interface Exception {
  /** Interrupt vector, 0 to 31. */
  readonly vector: number
  /** The manuals' short name, such as `#GP`; vector 9, which has none there, is `CSO`. */
  readonly mnemonic: string
  /** The manuals' long name. */
  readonly name: string
  readonly class: ExceptionClass
  /** Whether the processor pushes an error code. */
  readonly hasErrorCode: boolean
}

/**
 * Every vector that the architecture defines. Source: SDM vol. 3A §6.3, table 6-1 (vectors 0 to
 * 21); APM vol. 2 §8.1, table 8-1 (#HV, #VC, #SX).
 */
export const EXCEPTIONS: readonly Exception[] = [
  exception(0, '#DE', 'Divide Error', 'fault', false),
  exception(1, '#DB', 'Debug', 'fault/trap', false),
  exception(2, 'NMI', 'Non-Maskable Interrupt', 'interrupt', false),
  exception(3, '#BP', 'Breakpoint', 'trap', false),
  exception(4, '#OF', 'Overflow', 'trap', false),
  exception(5, '#BR', 'BOUND Range Exceeded', 'fault', false),
  exception(6, '#UD', 'Invalid Opcode', 'fault', false),
  exception(7, '#NM', 'Device Not Available', 'fault', false),
  exception(8, '#DF', 'Double Fault', 'abort', true),
  exception(9, 'CSO', 'Coprocessor Segment Overrun', 'fault', false),
  exception(10, '#TS', 'Invalid TSS', 'fault', true),
  exception(11, '#NP', 'Segment Not Present', 'fault', true),
  exception(12, '#SS', 'Stack Segment Fault', 'fault', true),
  exception(13, '#GP', 'General Protection', 'fault', true),
  exception(14, '#PF', 'Page Fault', 'fault', true),
  exception(16, '#MF', 'x87 Floating-Point Error', 'fault', false),
  exception(17, '#AC', 'Alignment Check', 'fault', true),
  exception(18, '#MC', 'Machine Check', 'abort', false),
  exception(19, '#XM', 'SIMD Floating-Point', 'fault', false),
  exception(20, '#VE', 'Virtualization Exception', 'fault', false),
  exception(21, '#CP', 'Control Protection', 'fault', true),
  exception(28, '#HV', 'Hypervisor Injection', 'interrupt', false),
  exception(29, '#VC', 'VMM Communication', 'fault', true),
  exception(30, '#SX', 'Security', 'interrupt', true),
]

const BY_VECTOR = new Map(EXCEPTIONS.map((e) => [e.vector, e]))

/** The exception of a vector, or `undefined` for a reserved vector or an external interrupt. */
export function exceptionByVector(vector: number): Exception | undefined {
  return BY_VECTOR.get(vector)
}

/** A vector as people write it: `#PF`, or `vector 0x20` when it is no exception. */
export function describeVector(vector: number): string {
  return BY_VECTOR.get(vector)?.mnemonic ?? `vector 0x${vector.toString(16)}`
}

function exception(
  vector: number,
  mnemonic: string,
  name: string,
  cls: ExceptionClass,
  hasErrorCode: boolean,
): Exception {
  return { vector, mnemonic, name, class: cls, hasErrorCode }
}
