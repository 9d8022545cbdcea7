// Kicks, pauses and stops against every state of a vCPU's thread, at random moments: none is lost,
// and none is left over for later. NODE_KVM_ROUNDS=1000000 runs it at length.

import { afterAll, describe, expect, test } from 'vitest'
import type { Exit, Vcpu } from '../../src/index.js'
import { createGuest, HALT, OUT_LOOP, SPIN } from '../helpers/guest.js'
import { waitUntil } from '../helpers/wait-until.js'

const ROUNDS = Number(process.env.NODE_KVM_ROUNDS ?? 20_000)
/** Far beyond the slowest kick, so that only a lost one takes as long. */
const LOST_MS = 20_000

const spinning = createGuest(SPIN)
const exiting = createGuest(OUT_LOOP)
const halting = createGuest(HALT, { irqchip: true })
const waitingForSipi = halting.vm.createVcpu(1)
afterAll(() => {
  waitingForSipi.close()
  for (const guest of [spinning, exiting, halting]) guest.close()
})

/** Numbers from 0 to 1, the same ones in every run. */
function randomNumbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

/** A moment: none at all, some microseconds, or a turn of the event loop. */
async function aMoment(random: () => number): Promise<void> {
  const choice = random()
  if (choice < 0.3) return
  if (choice < 0.6) return new Promise((resolve) => setImmediate(resolve))
  const until = performance.now() + random() * 0.1
  while (performance.now() < until);
}

function orLost<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout
  const lost = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`lost: ${what}`)), LOST_MS)
  })
  return Promise.race([promise, lost]).finally(() => clearTimeout(timer))
}

/** Whether each exit is answered later, so that the thread is found parked in a handler. */
async function round(vcpu: Vcpu, random: () => number, slowAnswers: boolean): Promise<void> {
  let kicked = false
  let stale = false
  let seen = () => {}
  const intr = new Promise<void>((resolve) => {
    seen = resolve
  })
  const handler = (exit: Exit) => {
    if (exit.type === 'intr') {
      if (!kicked) stale = true
      seen()
    }
    return slowAnswers ? new Promise<void>((resolve) => setImmediate(resolve)) : undefined
  }
  const kick = () => {
    kicked = true
    vcpu.kick()
  }
  const beforeStart = random() < 0.1
  if (beforeStart) kick()
  vcpu.start(handler)
  await aMoment(random)
  if (random() < 0.2) {
    await orLost(vcpu.pause(), 'a pause')
    await aMoment(random)
    if (!beforeStart && random() < 0.5) kick()
    vcpu.resume()
  }
  if (!kicked) kick()
  await orLost(intr, 'a kick')
  await aMoment(random)
  if (random() < 0.2) void vcpu.pause()
  await orLost(vcpu.stop(), 'a stop')
  expect(stale).toBe(false)
}

describe(`${ROUNDS} rounds of start, kick, stop`, () => {
  test.each<[string, Vcpu, boolean]>([
    ['spins', spinning.vcpu, false],
    ['exits', exiting.vcpu, false],
    ['is in a handler', exiting.vcpu, true],
    ['is halted', halting.vcpu, false],
    ['waits for SIPI', waitingForSipi, false],
  ])(
    'while the guest %s',
    async (state, vcpu, slowAnswers) => {
      const random = randomNumbers(state.length)
      for (let i = 0; i < ROUNDS / 5; i++) await round(vcpu, random, slowAnswers)
      if (vcpu === exiting.vcpu) expect(vcpu.run().type).toBe('io')
    },
    ROUNDS * 5 + 60_000,
  )

  test('before run() and between runs: each kick ends one run', () => {
    const { vcpu } = exiting
    const random = randomNumbers(1)
    for (let i = 0; i < ROUNDS / 5; i++) {
      const kicks = random() < 0.5 ? 1 : 3
      for (let k = 0; k < kicks; k++) vcpu.kick()
      expect(vcpu.run().type).toBe('intr')
      expect(vcpu.run().type).toBe('io')
    }
  })
})

test('a stopped vCPU leaves nothing behind for a thread that has its number', async () => {
  const { vcpu } = spinning
  for (let i = 0; i < 50; i++) {
    vcpu.start()
    const ended = vcpu.stop()
    vcpu.requestStop()
    await ended
    let ends = 0
    vcpu.start(() => void ends++)
    await waitUntil(() => vcpu.cpuTimeNs > 0)
    expect(ends).toBe(0)
    await vcpu.stop()
  }
})
