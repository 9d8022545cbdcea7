/** What a loop got last: kept, so that the compiler cannot leave out what nobody looks at. */
export let kept: unknown

/** Keeps it. */
export function keep(value: unknown): void {
  kept = value
}
