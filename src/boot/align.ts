// Rounding of guest-physical addresses and sizes, which are too large for the bitwise operators.

/** Rounds down to a multiple of `alignment`. */
export function alignDown(value: number, alignment: number): number {
  return value - (value % alignment)
}

/** Rounds up to a multiple of `alignment`. */
export function alignUp(value: number, alignment: number): number {
  return alignDown(value + alignment - 1, alignment)
}
