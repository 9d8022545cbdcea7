// CPUID has registers that hold the APIC id of the processor on which the question was asked, so two
// tables of one machine differ by where the thread was.

const HOLDERS: Record<number, [register: 'eax' | 'ebx' | 'edx', others: number]> = {
  1: ['ebx', 0x00ff_ffff],
  11: ['edx', 0],
  31: ['edx', 0],
  2147483678: ['eax', 0],
}

type Registers = { eax: number; ebx: number; edx: number }

/** The leaf with 0 for the APIC id. */
export function withoutApicId<T extends Registers>(leaf: number, entry: T): T {
  const [register, others] = HOLDERS[leaf] ?? ['eax', -1]
  return { ...entry, [register]: (entry[register] & others) >>> 0 }
}

/** A table of KVM without the APIC ids of the moment. */
export const withoutApicIds = <T extends Registers & { function: number }>(
  table: readonly T[],
): T[] => table.map((entry) => withoutApicId(entry.function, entry))
