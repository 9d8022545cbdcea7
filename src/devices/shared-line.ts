// A level-triggered line that several devices drive.

import type { InterruptLine } from './interrupt-line.js'

/** A level-triggered line that is up while any of its users drives it. */
export class SharedLine {
  readonly #line: InterruptLine
  #holders = 0

  constructor(line: InterruptLine) {
    this.#line = line
  }

  /** The line for one more user. */
  join(): InterruptLine {
    let mine = false
    return {
      set: (level) => {
        if (level === mine) return
        mine = level
        this.#holders += level ? 1 : -1
        this.#line.set(this.#holders > 0)
      },
    }
  }
}
