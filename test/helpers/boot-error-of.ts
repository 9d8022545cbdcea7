import { BootError } from '../../src/boot/index.js'

/** Runs `action`, which must throw a BootError, and returns that error. */
export function bootErrorOf(action: () => unknown): BootError {
  try {
    action()
  } catch (error) {
    if (error instanceof BootError) return error
    throw error
  }
  throw new Error('expected a BootError, but nothing was thrown')
}
