// Who executes a guest's code, by mode and ring: found out by what KVM's own counter says.

import { hostReport } from '../core/host/host-report.js'
import { asm } from './assembler/asm.js'
import { TestGuest } from './guest.js'
import type { ModeName, Ring } from './modes.js'

/**
 * `hardware`: the processor, under VMX or SVM; `native`: the processor, without them; `interpreted`:
 * KVM's instruction emulator.
 */
export type Engine = 'hardware' | 'native' | 'interpreted'

const ROUNDS = 400
const engines = new Map<string, Engine>()

/**
 * Who executes guest code of that mode and ring here.
 *
 * @throws UnsupportedModeError where this KVM cannot enter the mode.
 * @capability KVM_CAP_BINARY_STATS_FD
 */
export function engineOf(mode: ModeName = 'long', ring: Ring = 0): Engine {
  const place = `${mode} ${ring}`
  const known = engines.get(place)
  if (known) return known
  using g = new TestGuest({ mode, ring })
  g.run(asm`mov ecx, ${ROUNDS}; again: dec ecx; jnz again`)
  const isInterpreted = (g.statistics().insn_emulation ?? 0) > ROUNDS
  const engine = isInterpreted ? 'interpreted' : hasHardware() ? 'hardware' : 'native'
  engines.set(place, engine)
  return engine
}

function hasHardware(): boolean {
  const report = hostReport({ probeGuest: false })
  return report.available && report.engine.kind === 'hardware'
}
