// How two sides are compared on a machine that is never quiet: in short blocks that take turns, so
// that what disturbs one disturbs the other; by the thread's own CPU time; by medians.

import type { Loops } from './build.js'

/** What does an operation `count` times. */
export type Block = (count: number) => void

/** The two sides of a comparison. */
export interface Sides {
  c: Block
  ours: Block
}

/** How long to measure. */
export interface Effort {
  /** Length of a block, on the average of both sides. */
  blockMs: number
  /** Pairs of blocks in a round. */
  pairs: number
  /** Each round makes its objects anew, since where they lie in memory makes a difference. */
  rounds: number
  /** Both sides run this long before the first round: the compiler of JavaScript shall be done. */
  warmUpMs: number
}

/** One clock's figures, nanoseconds for one operation. */
export interface Times {
  /** Median of C's blocks. */
  c: number
  /** Median of our blocks. */
  ours: number
  /** Median of the differences within a pair of blocks. */
  extra: number
  /** `extra` is right to plus or minus this, with 95 % confidence. */
  error: number
}

/** A comparison by both clocks. */
export interface Comparison {
  /** Operations of one side. */
  operations: number
  /** CPU time of the thread. */
  cpu: Times
  /** A wall clock, which counts other programs of the machine too. */
  wall: Times
}

/** Measures two sides in turn; `sides` is called once for each round. */
export function compare(loops: Loops, sides: () => Sides, effort: Effort): Comparison {
  const cpu = new Series()
  const wall = new Series()
  let operations = 0
  for (let round = 0; round < effort.rounds; round++) {
    const { c, ours } = sides()
    warmUp(loops, { c, ours }, round === 0 ? effort.warmUpMs : effort.warmUpMs / 10)
    const count = pairSize(loops, { c, ours }, effort.blockMs)
    const time = (block: Block): Sample => {
      const wallStart = loops.wallTime()
      const cpuStart = loops.cpuTime()
      block(count)
      const cpuTime = loops.cpuTime() - cpuStart
      return { cpu: cpuTime / count, wall: (loops.wallTime() - wallStart) / count }
    }
    for (let pair = 0; pair < effort.pairs; pair++) {
      // ABBA: what grows or shrinks steadily falls on both alike.
      const cFirst = pair % 2 === 0 ? time(c) : undefined
      const our = time(ours)
      const their = cFirst ?? time(c)
      cpu.add(their.cpu, our.cpu)
      wall.add(their.wall, our.wall)
    }
    operations += count * effort.pairs
  }
  return { operations, cpu: cpu.times(), wall: wall.times() }
}

/** An operation that has to be prepared each time, outside of the measurement. */
export interface Prepared {
  prepare?: () => void | Promise<void>
  run: () => void
}

/** Measures two operations that last long and cannot be repeated at once, in turn. */
export async function comparePrepared(
  loops: Loops,
  { c, ours }: { c: Prepared; ours: Prepared },
  pairs: number,
  warmUps = 3,
): Promise<Comparison> {
  const cpu = new Series()
  const wall = new Series()
  const time = async ({ prepare, run }: Prepared): Promise<Sample> => {
    await prepare?.()
    const wallStart = loops.wallTime()
    const cpuStart = loops.cpuTime()
    run()
    const cpuTime = loops.cpuTime() - cpuStart
    return { cpu: cpuTime, wall: loops.wallTime() - wallStart }
  }
  for (let i = 0; i < warmUps; i++) for (const side of [c, ours]) await time(side)
  for (let pair = 0; pair < pairs; pair++) {
    const cFirst = pair % 2 === 0 ? await time(c) : undefined
    const our = await time(ours)
    const their = cFirst ?? (await time(c))
    cpu.add(their.cpu, our.cpu)
    wall.add(their.wall, our.wall)
  }
  return { operations: pairs, cpu: cpu.times(), wall: wall.times() }
}

interface Sample {
  cpu: number
  wall: number
}

class Series {
  readonly #c: number[] = []
  readonly #ours: number[] = []

  add(c: number, ours: number): void {
    this.#c.push(c)
    this.#ours.push(ours)
  }

  times(): Times {
    const differences = this.#ours.map((ours, i) => ours - this.#c[i]!)
    const spread = quantile(differences, 0.75) - quantile(differences, 0.25)
    return {
      c: quantile(this.#c, 0.5),
      ours: quantile(this.#ours, 0.5),
      extra: quantile(differences, 0.5),
      // A median's standard error is 1.25 s / sqrt(n); s is 0.74 of the range between quartiles.
      error: (1.96 * 1.25 * 0.74 * spread) / Math.sqrt(differences.length),
    }
  }
}

/** The value that a part `q` of them does not exceed. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = Float64Array.from(values).sort()
  const at = (sorted.length - 1) * q
  const low = sorted[Math.floor(at)]!
  return low + (sorted[Math.ceil(at)]! - low) * (at - Math.floor(at))
}

function warmUp(loops: Loops, { c, ours }: Sides, milliseconds: number): void {
  const end = loops.wallTime() + milliseconds * 1e6
  do {
    c(10)
    // Two lengths, so that no loop is compiled for one.
    ours(100)
    ours(1000)
  } while (loops.wallTime() < end)
}

/** How many operations last `milliseconds` on the average of both sides. */
function pairSize(loops: Loops, { c, ours }: Sides, milliseconds: number): number {
  const probe = 100
  let fastest = Infinity
  for (let i = 0; i < 5; i++) {
    const start = loops.wallTime()
    c(probe)
    ours(probe)
    fastest = Math.min(fastest, (loops.wallTime() - start) / probe)
  }
  return Math.max(10, Math.round((2 * milliseconds * 1e6) / fastest))
}
