// Creates, runs and closes guests, and shows that nothing of them stays: memory, files, threads.
//
//   node --expose-gc test/process/cycles.mjs [cycles]        10 000 unless said; about a minute
//
// The suite runs 1000 of them, or as many as NODE_KVM_CYCLES says.
//
// Four kinds take turns: run() to an exit; run() to a time-out; the same closed by nobody but the
// garbage collector; a vCPU on its own thread. Prints a line for each tenth and ends with status 1
// when something grew between the first tenth, in which pools and caches fill, and the last.

import { readdirSync } from 'node:fs'
import { createGuest, OUT_LOOP, SPIN } from './fixtures/guest.mjs'

const cycles = Number(process.argv[2] ?? 10_000)
const turn = () => new Promise((resolve) => setImmediate(resolve))

const kinds = [
  (guest) => {
    guest.vcpu.run()
    guest.memory.view(0, 16)
    guest.close()
  },
  (guest) => {
    guest.vcpu.run({ timeoutMs: 0.01 })
    guest.close()
  },
  (guest) => {
    guest.vcpu.run()
    guest.memory.view(0, 16)
  },
  async (guest) => {
    await new Promise((resolve) => guest.vcpu.start(() => resolve()))
    await guest.vcpu.stop()
    guest.close()
  },
]

async function collect() {
  for (let i = 0; i < 10; i++) {
    globalThis.gc()
    await turn()
  }
}

/** KVM's descriptors, mappings and the like are files; threads are tasks. */
async function measure(done) {
  await collect()
  const state = {
    cycles: done,
    rss: process.memoryUsage.rss(),
    fds: readdirSync('/proc/self/fd').length,
    threads: readdirSync('/proc/self/task').length,
  }
  console.log(JSON.stringify(state))
  return state
}

let first
let last
await measure(0) // opens what printing needs
for (let done = 0; done < cycles; ) {
  const until = done + Math.ceil(cycles / 10)
  for (; done < until; done++) {
    const kind = kinds[done % kinds.length]
    await kind(createGuest(kind === kinds[1] ? SPIN : OUT_LOOP))
    // What is left to the collector must not run into the limit of open files.
    if (done % 200 === 199) await collect()
  }
  last = await measure(done)
  first ??= last
}

const grown = []
if (last.fds > first.fds) grown.push('file descriptors')
if (last.threads > first.threads) grown.push('threads')
// What V8 keeps varies by a fraction of this. Sanitizers hold back what is freed on purpose.
const sanitized = /lib[at]san/.test(process.env.LD_PRELOAD ?? '')
if (!sanitized && last.rss - first.rss > 8 * 2 ** 20) grown.push('memory')
if (grown.length > 0) {
  console.error(`grew: ${grown.join(', ')}`)
  process.exit(1)
}
