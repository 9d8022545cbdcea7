// Where things lie in a test guest's RAM. All that real-mode code needs is below 64 KiB.

/** Interrupt vectors of real mode. */
export const IVT = 0
export const GDT = 0x1000
export const TSS = 0x1800
export const IDT = 0x2000
/** The entry points of all 256 vectors, {@link STUB_SIZE} bytes each. */
export const STUBS = 0x3000
export const STUB_SIZE = 4
/** Tops of the stacks that the processor changes to: from an outer ring, and for a double fault. */
export const RING0_STACK = 0x5000
export const DOUBLE_FAULT_STACK = 0x6000
/** Two doublewords for `barrier`: who has arrived, and how often all have. */
export const BARRIER = 0x7000
/** Where the code under test begins, and where it must end. */
export const CODE = 0x8000
export const CODE_END = 0xc000
/** Room for handlers of the test's. */
export const HANDLERS_END = 0xd000
/** Top of the stack of the code under test. */
export const STACK = 0xf000
/** Memory for the test's own use. */
export const DATA = 0xf000
export const DATA_END = 0x1_0000
export const TABLES = 0x1_0000
export const TABLES_SIZE = 0x1_0000
/** The least RAM that a guest has. */
export const RAM_SIZE = 0x4_0000
/** More RAM for each further vCPU: its TSS and its three stacks, a page each. */
export const CPU_SIZE = 0x4000

/** Where the parts lie that each vCPU has for itself. */
export interface CpuLayout {
  readonly tss: number
  readonly ring0Stack: number
  readonly doubleFaultStack: number
  readonly stack: number
}

/** The first vCPU's are low; those of the others lie behind the RAM of the test. */
export function cpuLayout(index: number, ramEnd: number): CpuLayout {
  if (index === 0) {
    const stacks = { ring0Stack: RING0_STACK, doubleFaultStack: DOUBLE_FAULT_STACK, stack: STACK }
    return { tss: TSS, ...stacks }
  }
  const tss = ramEnd + (index - 1) * CPU_SIZE
  const [ring0Stack, doubleFaultStack, stack] = [tss + 0x2000, tss + 0x3000, tss + 0x4000]
  return { tss, ring0Stack, doubleFaultStack, stack }
}

/** Ports by which a guest speaks to its test. All below 0x100: `out imm8, al` changes no register. */
export const PORT_DONE = 0xe0
export const PORT_VECTOR = 0xe1
export const PORT_VALUE = 0xe2
export const PORT_CALL = 0xe3

/**
 * What a call of the test is. KVM tells an OUT with RIP at it or behind it: the NOP keeps two calls in
 * a row apart.
 */
export const CALL = `out ${PORT_CALL}, al; nop`
export const CALL_SIZE = 3n
