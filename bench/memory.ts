// Guest RAM beside what C and a plain array do: access through views, copies, the collection of
// dirty pages, a VM with 4 GiB.

import { GuestMemory, Kvm } from 'node-kvm'
import type { Benchmark, Context } from './benchmark.js'
import { compare, comparePrepared } from './harness.js'
import { type Goal, type Report, type Row, row } from './report.js'
import { command, lowMemory, METHODS, SIZE, Tracked, VCPUS } from './tracked.js'

const MIB = 0x10_0000
const PAGE = 4096
const PAGES = SIZE / PAGE
const VM_SIZE = 4 * 1024 * MIB

/** Views, copies, dirty pages, creation. BENCH_TESTS=log-1,ring-1 names some of the rows of dirty pages: only these. */
export const benchmark: Benchmark = async (context): Promise<Report> => {
  using kvm = Kvm.open()
  const wanted = process.env.BENCH_TESTS?.split(',')
  const rows = wanted ? [] : [...viewRows(context), ...copyRows(context)]
  for (const [stride, name, kib] of [
    [1, 'all of 1 GiB dirty', 1],
    [8, 'every 8th page of 1 GiB dirty', 8],
    [PAGES, 'one page of 1 GiB dirty', PAGES],
  ] as const) {
    for (const method of METHODS) {
      if (wanted && !wanted.includes(`${method}-${kib}`)) continue
      rows.push(await trackedRow(context, kvm, method, stride, name, kib))
    }
  }
  if (!wanted) rows.push(await creationRow(context, kvm))
  return { rows, allocations: [] }
}

/** The same loops over both arrays: compiled once, so that only the arrays can differ. */
function readAll(bytes: Uint8Array): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i++) sum += bytes[i]!
  return sum
}

function writeAll(bytes: Uint8Array): void {
  for (let i = 0; i < bytes.length; i++) bytes[i] = i
}

function viewRows({ loops, effort }: Context): Row[] {
  const goal: Goal = { extraPercent: 5 }
  let sum = 0
  const sides = (each: (bytes: Uint8Array) => void) => () => {
    const plain = new Uint8Array(16 * PAGE).fill(1)
    const view = GuestMemory.create(MIB)
      .view(0, 16 * PAGE)
      .fill(1)
    const block = (bytes: Uint8Array) => (count: number) => {
      for (let i = 0; i < count; i++) each(bytes)
    }
    return { c: block(plain), ours: block(view) }
  }
  const read = (bytes: Uint8Array) => {
    sum += readAll(bytes)
  }
  const rows = [
    row(
      'viewRead',
      '64 KiB read by byte, beside a plain Uint8Array',
      compare(loops, sides(read), effort),
      goal,
    ),
    row(
      'viewWrite',
      '64 KiB written by byte, likewise',
      compare(loops, sides(writeAll), effort),
      goal,
    ),
  ]
  if (sum === 0) throw new Error('nothing was read')
  return rows
}

function copyRows({ loops, effort }: Context): Row[] {
  const goal: Goal = { extraPercent: 10 }
  const copy = (
    id: string,
    what: string,
    ours: (memory: GuestMemory, bytes: Uint8Array, other: GuestMemory) => void,
    c: 'in' | 'out' | 'between',
  ): Row => {
    // Both sides copy between the same pages: it is luck which of them share the places of a cache.
    const sides = () => {
      const [memory, other] = Array.from({ length: 2 }, () => {
        const memory = GuestMemory.create(MIB)
        memory.fill(0, MIB, 1)
        return memory
      }) as [GuestMemory, GuestMemory]
      const bytes = new Uint8Array(MIB).fill(2)
      const ram = memory.view(0, MIB)
      const [to, from] = {
        in: [ram, bytes],
        out: [bytes, ram],
        between: [other.view(0, MIB), ram],
      }[c] as [Uint8Array, Uint8Array]
      return {
        c: (count: number) => loops.copyBytes(to, from, count),
        ours: (count: number) => {
          for (let i = 0; i < count; i++) ours(memory, bytes, other)
        },
      }
    }
    return row(id, what, compare(loops, sides, effort), goal)
  }
  return [
    copy(
      'write',
      'write() of 1 MiB, beside memcpy',
      (memory, bytes) => memory.write(0, bytes),
      'in',
    ),
    copy('readInto', 'readInto() of 1 MiB', (memory, bytes) => memory.readInto(0, bytes), 'out'),
    copy('copyTo', 'copyTo() of 1 MiB', (memory, _, to) => memory.copyTo(to, 0, 0, MIB), 'between'),
  ]
}

/**
 * vCPUs run on other threads, as in a VMM. They write for seconds, after which the collecting thread's code is in no
 * cache any more: so both sides collect from another guest first, of which five pages are dirty, unless BENCH_COLD
 * is set.
 */
async function trackedRow(
  { loops, effort }: Context,
  kvm: Kvm,
  method: (typeof METHODS)[number],
  stride: number,
  name: string,
  divisor: number,
): Promise<Row> {
  const create = (stride: number, pages: number) => {
    const guest = loops.createTracked(METHODS.indexOf(method), lowMemory())
    const tracked = new Tracked(kvm, method)
    for (const low of [loops.trackedLow(guest), tracked.low]) command(low, stride, pages)
    const expectAll = (found: number) => {
      if (found !== pages) throw new Error(`${method}: found ${found} pages of ${pages}`)
    }
    return {
      c: {
        prepare: () => loops.trackedWrite(guest),
        run: () => expectAll(loops.trackedCollect(guest)),
      },
      ours: { prepare: () => tracked.write(), run: () => expectAll(tracked.collect()) },
      close: () => tracked.close(),
    }
  }
  // What vCPUs wrote into rings and the log is then as far away for both sides.
  loops.useCpu(0)
  const large = create(stride, PAGES / divisor)
  const small = create(1024, VCPUS)
  const side = (which: 'c' | 'ours') => ({
    prepare: async () => {
      await small[which].prepare()
      await large[which].prepare()
      if (!process.env.BENCH_COLD) small[which].run()
    },
    run: large[which].run,
  })
  const comparison = await comparePrepared(
    loops,
    { c: side('c'), ours: side('ours') },
    ...times(effort.rounds, divisor),
  )
  for (const guests of [large, small]) guests.close()
  // One page is a matter of fixed costs: some microseconds of JavaScript that was not run for a while. A range
  // costs the call of a function, which is compiled only when it was called for some time.
  const goal = divisor === 1 ? { extraPercent: 20 } : undefined
  return row(`${method}-${divisor}`, `${name}: ${method}`, comparison, goal)
}

/** How many pairs, and warm-ups: where KVM is software, the guest writes to all pages in seven seconds. */
const times = (rounds: number, divisor: number): [pairs: number, warmUps: number] =>
  divisor === 1 ? [rounds, 2] : [rounds * (divisor === 8 ? 2 : 10), 3]

async function creationRow({ loops, effort }: Context, kvm: Kvm): Promise<Row> {
  const ours = () => {
    const vm = kvm.createVm()
    const memory = GuestMemory.create(VM_SIZE)
    vm.mapMemory(memory)
    vm.close()
    memory.close()
  }
  const sides = { c: { run: () => loops.createVm(VM_SIZE) }, ours: { run: ours } }
  const comparison = await comparePrepared(loops, sides, effort.rounds * 40)
  return row('create', 'a VM with 4 GiB of RAM, made and closed', comparison, { extraPercent: 20 })
}
