// The modes in which a test guest's code can run, and the registers that each begins with.

import { flagBits } from '../x86/bitfields.js'
import { CR0, CR4 } from '../x86/control-registers.js'
import { EFER } from '../x86/efer.js'
import type { PagingMode } from '../x86/paging-mode.js'

/** Rings of the processor. */
export type Ring = 0 | 1 | 2 | 3

/** What a mode is, by its name. */
export interface Mode {
  /** Code size. */
  readonly bits: 16 | 32 | 64
  readonly paging: PagingMode | undefined
  /** EFER.LMA = 1: descriptors and gates of long mode. */
  readonly long: boolean
  /** CR0.PE = 1. */
  readonly protected: boolean
}

const mode = (bits: 16 | 32 | 64, paging?: PagingMode, long = false, isProtected = true): Mode => ({
  bits,
  paging,
  long,
  protected: isProtected,
})

/**
 * All modes: `real`; `unreal`, which is real mode with data segments of 4 GiB; 32-bit code without
 * paging (`protected`) and with each kind of it; 32-bit and 64-bit code of long mode. Source: SDM
 * vol. 3A §2.2, figure 2-3; §4.1.
 */
export const MODES = {
  real: mode(16, undefined, false, false),
  unreal: mode(16, undefined, false, false),
  protected: mode(32),
  paging32: mode(32, '32-bit'),
  pae: mode(32, 'pae'),
  compat: mode(32, '4-level', true),
  long: mode(64, '4-level', true),
  long5: mode(64, '5-level', true),
} as const satisfies Record<string, Mode>

/** Names of {@link MODES}. */
export type ModeName = keyof typeof MODES

/** The control registers as an operating system sets them, without those that paging needs. */
export function controlRegisters(mode: Mode): { cr0: bigint; cr4: bigint; efer: bigint } {
  const always = flagBits(CR0, 'ET', 'NE')
  if (!mode.protected) return { cr0: always, cr4: 0n, efer: 0n }
  return {
    cr0: always | flagBits(CR0, 'PE', 'MP', 'WP'),
    cr4: flagBits(CR4, 'OSFXSR', 'OSXMMEXCPT'),
    efer: mode.long ? flagBits(EFER, 'LME', 'LMA') : 0n,
  }
}
