// @ts-check
// Finds the line by which a machine says that a command has ended, in the same stream as the output
// before it: so the order is certain, and nothing that follows an end mark can be lost.
import { randomBytes } from 'node:crypto'

/**
 * Makes a mark that no output can contain by accident. It starts with a control character because output
 * that ends like the start of a mark is held back.
 */
export const createEndMark = () => `\x1elab-end-${randomBytes(16).toString('hex')}`

/** @param {Buffer} data @param {Buffer} mark */
function lengthWithoutPartialMark(data, mark) {
  for (let at = Math.max(0, data.length - mark.length); at < data.length; at++)
    if (mark.subarray(0, data.length - at).equals(data.subarray(at))) return at
  return data.length
}

/** Separates a stream's output from the end mark and the exit status behind it. */
export class EndMarkFilter {
  #mark
  /** @type {Buffer} */
  #held = Buffer.alloc(0)

  /** The exit status of the command, once the stream has brought it. @type {number | undefined} */
  status

  /** @param {string} mark */
  constructor(mark) {
    this.#mark = Buffer.from(mark)
  }

  /**
   * Takes what came next and gives what of it is output.
   *
   * @param {Buffer} chunk
   * @returns {Buffer}
   */
  push(chunk) {
    const data = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk])
    const found = data.indexOf(this.#mark)
    const end = found >= 0 ? found : lengthWithoutPartialMark(data, this.#mark)
    this.#held = data.subarray(end)
    const line = /^ (\d+)\n/.exec(this.#held.toString('latin1', this.#mark.length))
    if (found >= 0 && line !== null) this.status = Number(line[1])
    return data.subarray(0, end)
  }
}
