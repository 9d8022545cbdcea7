// @ts-check
// Runs one Linux guest with a machine that a module of ours makes: the part of lab/guests.mjs that runs in
// the lab.
//
//   node lab/run-guest.mjs '{"host": "test/lab/hosts/rng.mjs", "kernel": …, "initrd": …, …}'
//
// What the guest prints goes to standard output, with what the host module says between.
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { Machine } from '../lib/index.js'

/** For the host's part, once the guest has ended. */
const HOST_SECONDS = 60

const { host, kernel, initrd, cmdline, timeout, ...options } = JSON.parse(process.argv[2] ?? '{}')

/** @type {import('./guests.mjs').GuestHost} */
const side = await import(pathToFileURL(resolve(host)).href)
const say = (/** @type {string} */ text) => process.stdout.write(`host: ${text}\n`)
const more = (await side.machineOptions?.()) ?? {}
const machine = await Machine.create({ ...options, ...more, boot: { kernel, initrd, cmdline } })
machine.on('deviceFailed', (device, error) => say(`${device.name} failed: ${error}`))
machine.serial.on('data', (chunk) => process.stdout.write(chunk))
const running = machine.run({ signal: AbortSignal.timeout(timeout * 1000) })
const work = Promise.resolve(side.whileRunning?.(machine, say)).catch(async (error) => {
  await machine.stop()
  throw error
})
/** What the host does may wait for words of the guest that never come. */
const overdue = running
  .catch(() => {})
  .then(() => sleep(HOST_SECONDS * 1000))
  .then(() => {
    throw new Error(`the host's part did not end within ${HOST_SECONDS} s of the guest's`)
  })
// The guest decides when it is over; what the host does meanwhile may fail first.
const [end, ended] = await Promise.allSettled([running, Promise.race([work, overdue])])
await machine.close()
await side.afterwards?.(say)
for (const each of [end, ended]) {
  if (each.status === 'fulfilled') continue
  say(`${each.reason?.stack ?? each.reason}`)
  process.exitCode = 1
}
// Whatever the host's part still waits for.
process.stdout.write('', () => process.exit())
