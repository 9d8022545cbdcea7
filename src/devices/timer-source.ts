// Where a device gets its timers from, so that tests can own time and an idle device does not keep
// the process alive.

/** Starts one-shot timers. */
export interface TimerSource {
  /**
   * Calls `callback` once after `delayMs` milliseconds.
   *
   * @returns a function that cancels the timer; harmless afterwards
   */
  start(callback: () => void, delayMs: number): () => void
}

/** Node's timers, without keeping the process alive. */
export const nodeTimers: TimerSource = {
  start(callback, delayMs) {
    const timer = setTimeout(callback, delayMs)
    timer.unref()
    return () => clearTimeout(timer)
  },
}
