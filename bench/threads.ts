// Exits that are answered below JavaScript, by JavaScript on another thread, and in a Worker; writes
// that ring an eventfd.

import { Worker } from 'node:worker_threads'
import { EventFd, type ExitTrace, Kvm, type Vcpu } from 'node-kvm'
import type { Benchmark, Context } from './benchmark.js'
import { BARE_ADDON, type CGuest } from './build.js'
import {
  ANSWER,
  BELL_PORT,
  createGuest,
  createGuestWithMemory,
  DOORBELL,
  PORT_LOOP,
  RINGS,
  rareOut,
} from './guests.js'
import { compare } from './harness.js'
import { type LatencyRow, latencyRow, type Report, type Row, row } from './report.js'

/** Exits or rings in a block; the sides take turns. */
const BLOCK = 500

/** All of it. */
export const benchmark: Benchmark = async (context): Promise<Report> => {
  using kvm = Kvm.open()
  const bare = context.runApart('table-bare', { NODE_KVM_ADDON: BARE_ADDON })
  const rows = [...bare.rows, realTable(context, kvm), await inWorker(context)]
  const busy = { p50Us: 10 }
  const asleep = { p50Us: 25 }
  const often = PORT_LOOP
  const latencies = [
    await roundTrips(context, kvm, 'busy', 'exit to JS and back, loop busy', often, true, busy),
    await roundTrips(context, kvm, 'often', 'the same, nothing else to do', often, false, asleep),
    await roundTrips(context, kvm, 'rare', 'the same, a rare exit', rareOut(400), false, asleep),
    await doorbells(context, kvm, 'bellBusy', 'doorbell to JS and back, loop busy', true),
    await doorbells(context, kvm, 'bell', 'the same, nothing else to do', false),
  ]
  return { rows, allocations: [], latencies }
}

function realTable({ loops, effort }: Context, kvm: Kvm): Row {
  const sides = () => {
    const vcpu = createGuest(kvm, PORT_LOOP)
    for (const port of [0x10, 0x20, 0x80]) vcpu.vm.answerPio(port, 4, { write: 'ignore' })
    const guest = loops.createGuest(PORT_LOOP)
    return {
      c: (count: number) => void loops.exitLoop(guest, count),
      // One exit of four is not the table's, so that a block ends.
      ours: (count: number) => {
        for (let i = 0; i < count; i += 4) vcpu.run()
      },
    }
  }
  return row('table', 'write that the table ignores, real exit', compare(loops, sides, effort))
}

function inWorker({ effort }: Context): Promise<Row> {
  // Workers do not inherit the loader of TypeScript.
  const source = `import('tsx/esm/api').then(({ tsImport }) =>
    tsImport(${JSON.stringify(new URL('./exits-worker.ts', import.meta.url).href)}, __filename))`
  const worker = new Worker(source, { eval: true, workerData: effort })
  return new Promise((resolve, reject) => {
    worker.once('message', (comparison) => {
      // 0.95 of C's exits in a second.
      const goal = { extraPercent: 100 / 0.95 - 100 }
      resolve(row('worker', 'port write in a Worker, real exit', comparison, goal))
    })
    worker.once('error', reject)
  })
}

/** Keeps the event loop from sleeping until it is told to stop. */
function keepBusy(): () => void {
  let on = true
  const again = () => {
    if (on) setImmediate(again)
  }
  again()
  return () => {
    on = false
  }
}

/** Lets both sides fill arrays of times in turn. */
async function inTurn(
  { effort }: Context,
  c: (times: Float64Array) => void,
  ours: (times: Float64Array) => Promise<void>,
  busy: boolean,
): Promise<[c: number[], ours: number[]]> {
  const times = new Float64Array(BLOCK)
  const all: [number[], number[]] = [[], []]
  for (let block = 0; block <= effort.rounds; block++) {
    c(times)
    if (block > 0) all[0].push(...times)
    const rest = busy ? keepBusy() : () => {}
    await ours(times)
    rest()
    if (block > 0) all[1].push(...times)
  }
  return all
}

async function roundTrips(
  context: Context,
  kvm: Kvm,
  id: string,
  what: string,
  code: Uint8Array,
  busy: boolean,
  goal: { p50Us: number },
): Promise<LatencyRow> {
  const { loops } = context
  const guest = loops.createGuest(code)
  const vcpu = createGuest(kvm, code)
  const trace = vcpu.startTrace({ capacity: 1024 })
  const [c, ours] = await inTurn(
    context,
    (times) => loops.handoff(guest, busy, times),
    async (times) => answeredExits(vcpu, trace, times),
    busy,
  )
  return latencyRow(id, what, c, ours, goal)
}

/** From the trace: between one run of the guest and the next. */
async function answeredExits(vcpu: Vcpu, trace: ExitTrace, times: Float64Array): Promise<void> {
  let left = times.length + 1
  vcpu.start(() => {
    if (--left === 0) vcpu.requestStop()
  })
  await vcpu.join()
  const exits = trace.exits.slice(-times.length - 1)
  for (let i = 0; i < times.length; i++) {
    times[i] = (exits[i + 1]!.enteredUs - exits[i]!.exitedUs) * 1000
  }
}

async function doorbells(
  context: Context,
  kvm: Kvm,
  id: string,
  what: string,
  busy: boolean,
): Promise<LatencyRow> {
  const { loops } = context
  const guest: CGuest = loops.createGuest(DOORBELL)
  const { vcpu, memory } = createGuestWithMemory(kvm, DOORBELL)
  using event = EventFd.create()
  vcpu.vm.ioeventfd({ eventFd: event, address: BELL_PORT, length: 1, pio: true })
  const answer = new Uint16Array(memory.view(0, 0x1000).buffer, ANSWER, 1)
  let answers: (() => void) | undefined
  event.onSignal(() => answers?.())
  const ring = async (times: Float64Array) => {
    memory.writeU16(RINGS, times.length)
    let count = 0
    let before = loops.wallTime()
    answers = () => {
      const now = loops.wallTime()
      times[count++] = now - before
      before = now
      Atomics.add(answer, 0, 1)
    }
    vcpu.start(() => vcpu.requestStop())
    await vcpu.join()
  }
  const [c, ours] = await inTurn(context, (times) => loops.doorbell(guest, busy, times), ring, busy)
  return latencyRow(id, what, c, ours)
}
