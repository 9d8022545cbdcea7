// What bench/main.ts runs.

import type { Loops } from './build.js'
import type { Effort } from './harness.js'
import type { Report } from './report.js'

/** What a benchmark gets. */
export interface Context {
  loops: Loops
  effort: Effort
  /** Runs another benchmark in a process of its own, with this added to its environment. */
  runApart(name: string, environment: Record<string, string>): Report
}

/** A file of bench/ exports one as `benchmark`. */
export type Benchmark = (context: Context) => Report | Promise<Report>
