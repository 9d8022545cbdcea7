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
/** Where the code under test begins, and where it must end. */
export const CODE = 0x8000
export const CODE_END = 0xc000
/** Top of the stack of the code under test. */
export const STACK = 0xf000
/** Memory for the test's own use. */
export const DATA = 0xf000
export const DATA_END = 0x1_0000
export const TABLES = 0x1_0000
export const TABLES_SIZE = 0x1_0000
/** The least RAM that a guest has. */
export const RAM_SIZE = 0x4_0000

/** Ports by which a guest speaks to its test. All below 0x100: `out imm8, al` changes no register. */
export const PORT_DONE = 0xe0
export const PORT_VECTOR = 0xe1
export const PORT_VALUE = 0xe2
