// Boots Linux by `node-kvm run` and types on its console: when a line of the output contains the first
// of a pair, the second is typed. Prints what the guest prints and ends with the command's own status.
//
//   node lab/boot-and-talk.mjs '[["ready", "hello\n"]]' --kernel ... (arguments of node-kvm run)
import { spawn } from 'node:child_process'
import { join } from 'node:path'

const [script = '[]', ...args] = process.argv.slice(2)
/** @type {[string, string][]} */
const pairs = JSON.parse(script)
const command = join(import.meta.dirname, '..', 'lib', 'cli', 'main.cjs')
const child = spawn(process.execPath, [command, 'run', ...args], {
  stdio: ['pipe', 'pipe', 'inherit'],
})
let unseen = ''
child.stdout.on('data', (chunk) => {
  process.stdout.write(chunk)
  unseen += chunk
  const next = pairs[0]
  if (next === undefined || !unseen.includes(next[0])) return
  pairs.shift()
  unseen = ''
  child.stdin.write(next[1])
})
child.on('close', (status) => {
  process.exitCode = status ?? 1
})
