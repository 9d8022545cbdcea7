// @ts-check
// Asks QEMU's monitor what the processors of a machine are doing: for one that gives no sign of life.
import { createConnection } from 'node:net'

const PROMPT = '(qemu) '
/** An emulator that is stopped itself does not answer. */
const ANSWER_MS = 5000

/**
 * @param {string} path of the monitor's socket
 * @param {string} command
 * @returns {Promise<string>} what QEMU answers, empty when it does not
 */
export function askMonitor(path, command) {
  return new Promise((resolve) => {
    let text = ''
    let isSent = false
    const socket = createConnection(path)
    socket.setEncoding('utf8')
    socket.setTimeout(ANSWER_MS, () => socket.destroy())
    socket.on('error', () => {})
    socket.on('close', () => resolve(isSent ? text : ''))
    socket.on('data', (chunk) => {
      text += chunk
      if (!text.endsWith(PROMPT)) return
      if (isSent) {
        socket.destroy()
        return
      }
      isSent = true
      text = ''
      socket.write(`${command}\n`)
    })
  })
}

/**
 * Tells where each processor is; twice, to see whether it moves.
 *
 * @param {string} path of the monitor's socket
 * @returns {Promise<string>} lines with `CPU#`, and with `RIP=` or `EIP=`
 */
export async function whereProcessorsAre(path) {
  const looks = [
    await askMonitor(path, 'info registers -a'),
    await askMonitor(path, 'info registers -a'),
  ]
  const lines = looks.flatMap((look) => look.split(/\r?\n/))
  return lines.filter((line) => /CPU#|[ER]IP=/.test(line)).join('\n')
}
