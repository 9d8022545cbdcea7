// Kicks, pauses and stops against every state of a vCPU's thread, at moments that chance chooses:
// none is lost, none is late, and none is left over for the next run.
//
//   node test/process/kick-race.mjs [rounds] [seed]        1 000 000 unless said; some ten minutes
//
// Prints for each state how long kicks, pauses and stops took. Ends with status 1 when one was lost
// or stale, and with more than 100 000 rounds, when one took longer than 100 ms.

import { createGuest, HALT, OUT_LOOP, SPIN } from './fixtures/guest.mjs'

const rounds = Number(process.argv[2] ?? 1_000_000)
const seed = Number(process.argv[3] ?? 1)
const LATE_MS = rounds > 100_000 ? 100 : Infinity
/** Far beyond the slowest kick, so that only a lost one takes as long. */
const LOST_MS = 20_000

/** mulberry32: the same numbers in every run. From 0 to 1. */
let a = seed | 0
function random() {
  a = (a + 0x6d2b79f5) | 0
  let t = Math.imul(a ^ (a >>> 15), 1 | a)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
}
const chance = (probability) => random() < probability

const turn = () => new Promise((resolve) => setImmediate(resolve))

/** Nothing at all, a turn of the event loop, or up to 100 us. */
function aMoment() {
  const choice = random()
  if (choice < 0.3) return
  if (choice < 0.6) return turn()
  const until = performance.now() + random() * 0.1
  while (performance.now() < until);
}

const guests = [createGuest(SPIN), createGuest(OUT_LOOP), createGuest(HALT, { irqchip: true })]
const [spinning, exiting, halting] = guests
const waiting = halting.vm.createVcpu(1)

const state = (name, vcpu, how = {}) => ({ name, vcpu, ...how, times: {} })
const states = [
  state('spinning', spinning.vcpu),
  state('exiting', exiting.vcpu),
  state('in a handler', exiting.vcpu, { slowAnswers: true }),
  state('halted', halting.vcpu),
  state('waiting for SIPI', waiting),
  state('not started', spinning.vcpu, { kickFirst: true }),
  state('started paused', exiting.vcpu, { paused: true }),
  state('in run()', exiting.vcpu, { here: true }),
]

/** What is being waited for, and since when. One timer looks after it: a timer for each would cost more. */
let awaited
const guard = setInterval(() => {
  if (awaited === undefined || performance.now() - awaited.since < LOST_MS) return
  console.error(`lost: ${awaited.what}, round ${round} of seed ${seed}`)
  process.exit(1)
}, 1000)

async function timed(of, what, since, promise) {
  awaited = { what: `a ${what} while ${of.name}`, since }
  const end = (await promise) ?? performance.now()
  awaited = undefined
  of.times[what] ??= { count: 0, sumMs: 0, maxMs: 0, lateAt: [] }
  const times = of.times[what]
  const took = end - since
  times.count++
  times.sumMs += took
  times.maxMs = Math.max(times.maxMs, took)
  if (took > LATE_MS) times.lateAt.push(round)
}

let round = 0
const stale = (of) => {
  console.error(`stale: an exit without a kick while ${of.name}, round ${round} of seed ${seed}`)
  process.exit(1)
}

/** Starts, perhaps pauses, kicks, stops. */
async function onThread(of) {
  const { vcpu, slowAnswers = false, kickFirst = false, paused = false } = of
  let kickedAt
  let seen
  const intr = new Promise((resolve) => {
    seen = resolve
  })
  const handler = (exit) => {
    if (exit.type === 'intr') {
      if (kickedAt === undefined) stale(of)
      seen(performance.now())
    }
    return slowAnswers ? turn() : undefined
  }
  const kick = () => {
    kickedAt = performance.now()
    vcpu.kick()
  }
  if (kickFirst) kick()
  vcpu.start(handler, { paused })
  await aMoment()
  if (paused) {
    if (chance(0.5)) kick()
    if (chance(0.2)) return end(of)
    await aMoment()
    vcpu.resume()
  } else if (chance(0.2)) {
    await timed(of, 'pause', performance.now(), vcpu.pause())
    await aMoment()
    if (kickedAt === undefined && chance(0.5)) kick()
    vcpu.resume()
  }
  if (kickedAt === undefined) kick()
  // Sometimes the stop comes on the heels of the kick, and then the thread may end without an exit.
  if (chance(0.8)) await timed(of, 'kick', Math.max(kickedAt, 0), intr)
  await aMoment()
  if (chance(0.2)) void vcpu.pause()
  await end(of)
}

async function end(of) {
  await timed(of, 'stop', performance.now(), of.vcpu.stop())
}

/** Each kick, or several before the run, end one run; the one after that is the guest's. */
async function here({ vcpu, ...of }) {
  for (let kicks = chance(0.5) ? 1 : 3; kicks > 0; kicks--) vcpu.kick()
  const types = [vcpu.run().type, vcpu.run().type].join()
  if (types !== 'intr,io') {
    console.error(`run() ended by ${types}, round ${round} of seed ${seed}`, of.name)
    process.exit(1)
  }
}

for (; round < rounds; round++) {
  const of = states[Math.floor(random() * states.length)]
  await (of.here ? here(of) : onThread(of))
  if (rounds >= 100_000 && round % (rounds / 20) === 0) report()
}
clearInterval(guard)
const late = report()
for (const guest of [{ close: () => waiting.close() }, ...guests]) guest.close()
process.exitCode = late ? 1 : 0

function report() {
  const lines = states.flatMap(({ name, times }) =>
    Object.entries(times).map(([what, { count, sumMs, maxMs, lateAt }]) => {
      const us = (ms) => `${Math.round(ms * 1000)} us`
      const rest = lateAt.length > 0 ? `, LATE in rounds ${lateAt.slice(0, 10)}` : ''
      return `${name}, ${what}: ${count}, mean ${us(sumMs / count)}, max ${us(maxMs)}${rest}`
    }),
  )
  console.log([`${round} rounds of seed ${seed}`, ...lines].join('\n'))
  return states.some(({ times }) => Object.values(times).some(({ lateAt }) => lateAt.length > 0))
}
