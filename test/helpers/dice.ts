// Chance that is the same in every run with the same seed.

/** Numbers below 2^32 that follow from a seed (Marsaglia's xorshift). */
function* numbers(seed: number): Generator<number, never> {
  let state = (seed * 2_654_435_761 + 1) >>> 0 || 1
  for (;;) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    state >>>= 0
    yield state
  }
}

/** What a seed decides. */
export class Dice {
  readonly #numbers: Generator<number, never>

  constructor(seed: number) {
    this.#numbers = numbers(seed)
  }

  /** From 0 to `limit` - 1. */
  below(limit: number): number {
    return this.#numbers.next().value % limit
  }

  /** 32 bits. */
  any(): number {
    return this.#numbers.next().value
  }

  /** One of them. */
  of<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!
  }

  /** Bytes of any kind. */
  bytes(length: number): Buffer {
    return Buffer.from(Uint8Array.from({ length }, () => this.any()))
  }
}
