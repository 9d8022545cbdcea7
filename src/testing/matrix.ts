// The same test in many places: every combination of what is listed.

import { MODES, type ModeName } from './modes.js'

type Axes = Readonly<Record<string, readonly unknown[]>>

/** One combination of a {@link matrix}: a value for each of its names. */
export type Combination<A extends Axes> = { [Name in keyof A]: A[Name][number] }

/**
 * All combinations of the values, for `test.for` or a loop. Where `mode` and `ring` are among the
 * names, rings that a mode does not have are left out.
 *
 * ```ts
 * const places = matrix({ mode: ['real', 'protected', 'long'], ring: [0, 3], umip: [false, true] })
 * test.for(places)('$mode, ring $ring, UMIP $umip', async ({ umip, ...place }, t) => {
 *   requires(t, `mode:${place.mode}`)
 *   using g = await guest({ ...place, cr4: { umip } })
 * ```
 */
export function matrix<const A extends Axes>(axes: A): Combination<A>[] {
  let all: Record<string, unknown>[] = [{}]
  for (const [name, values] of Object.entries(axes)) {
    all = all.flatMap((some) => values.map((value) => ({ ...some, [name]: value })))
  }
  return all.filter(exists) as Combination<A>[]
}

/** Real mode has no rings. */
function exists({ mode, ring }: Record<string, unknown>): boolean {
  return MODES[mode as ModeName]?.protected !== false || !ring
}
