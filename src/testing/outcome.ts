// How a run of a test guest ended, as plain values that later runs do not change.

import type { Exit } from '../core/exits/exits.js'
import type { KvmRegs, KvmSregs } from '../uapi/index.js'
import { describeException } from '../x86/error-codes.js'
import { disassemble } from './assembler/disassemble.js'
import type { Program } from './assembler/program.js'

/** An exception, or an interrupt, that the guest took. */
export interface Raised {
  readonly vector: number
  /** `#GP`, `NMI`, …; `INT 0x40` for a vector without a name. */
  readonly name: string
  /** Undefined where the processor pushes none. */
  readonly errorCode: number | undefined
  /** Where it happened: the instruction of a fault, the one after a trap. */
  readonly rip: bigint
  readonly cs: number
  readonly rflags: bigint
  /** The interrupted code's; undefined where the processor pushes none. */
  readonly rsp: bigint | undefined
  /** The linear address of a page fault. */
  readonly cr2: bigint | undefined
}

/** The fields of a KVM exit, copied: `type` is that of {@link Exit}. */
export type ExitFields = { readonly type: Exit['type'] } & Readonly<Record<string, unknown>>

/** What {@link TestGuest.run} gives. */
export interface Outcome {
  /** Which vCPU it is about. */
  readonly cpu: number
  /**
   * `done`: the code came to its end. `raised`: it took an exception or interrupt that no handler
   * of the test takes. `exit`: KVM came back for another reason. `timeout`: it was stopped, by time or
   * by its number of exits.
   */
  readonly kind: 'done' | 'raised' | 'exit' | 'timeout'
  readonly raised: Raised | undefined
  readonly exit: ExitFields | undefined
  /** General registers at the end; of an exception, those of the code that caused it. */
  readonly regs: KvmRegs
  /** Special registers at the end. */
  readonly sregs: KvmSregs
  /** What the code sent by `report`, in order. */
  readonly values: readonly number[]
  /** The lines that functions of the test have logged ({@link CallingCpu.log}). */
  readonly log: readonly string[]
  /** KVM's exits in order, without those by which the code speaks to the test; the latest 64. */
  readonly exits: readonly ExitFields[]
  /** The latest instructions, where {@link RunGuestOptions.trace} asks for them. */
  readonly trace: readonly string[] | undefined
  /** The bytes at RIP, where it is in RAM. */
  readonly bytes: Uint8Array
  readonly program: Program
}

const properties = new Map<Exit['type'], readonly string[]>()

/** Names of what an exit object reads from the page that all exits share. */
function propertiesOf(exit: Exit): readonly string[] {
  const known = properties.get(exit.type)
  if (known) return known
  const names = new Set<string>()
  for (let at = exit; at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    for (const [name, { get }] of Object.entries(Object.getOwnPropertyDescriptors(at))) {
      if (get) names.add(name)
    }
  }
  properties.set(exit.type, [...names])
  return [...names]
}

/** Copies an exit. */
export function copyExit(exit: Exit): ExitFields {
  const fields: Record<string, unknown> = { type: exit.type }
  for (const name of propertiesOf(exit)) {
    const value = (exit as unknown as Record<string, unknown>)[name]
    fields[name] = ArrayBuffer.isView(value) ? (value as Uint8Array).slice() : value
  }
  return fields as ExitFields
}

function describeExit(exit: ExitFields): string {
  const shown = Object.entries(exit).filter(([name]) => name !== 'type' && name !== 'data')
  return `${exit.type} (${shown.map((pair) => pair.join(' ')).join(', ')})`
}

function describe({ kind, raised, exit, regs }: Outcome): string {
  switch (kind) {
    case 'done':
      return 'came to its end'
    case 'timeout':
      return `did not end in time or number of exits; stopped at 0x${regs.rip.toString(16)}`
    case 'exit':
      return `ended with a KVM exit: ${describeExit(exit!)}`
    default:
      return `raised ${describeRaised(raised!)}`
  }
}

function describeRaised({ vector, name, errorCode, rip, cr2 }: Raised): string {
  const what = name.startsWith('INT') ? name : describeException(vector, errorCode)
  const where = cr2 === undefined ? '' : ` on 0x${cr2.toString(16)}`
  return `${what}${where} at 0x${rip.toString(16)}`
}

/** Exits that a failure shows. */
const EXITS_SHOWN = 8

/** A few lines for people: how it ended, where, and with which registers. */
export function describeOutcome(outcome: Outcome): string {
  const cpu = outcome.cpu === 0 ? '' : `, on vCPU ${outcome.cpu},`
  return `the guest${cpu} ${describe(outcome)}\n\n${describeState(outcome)}`
}

/** Where the code stands, what it did before, and the registers. */
export function describeState({ raised, regs, program, ...outcome }: Outcome): string {
  const rip = raised?.rip ?? regs.rip
  const elsewhere = program.sourceAt(rip) === undefined
  const bits = outcome.sregs.cs.l ? 64 : outcome.sregs.cs.db ? 32 : 16
  const blocks = [
    program.listing(rip),
    elsewhere ? disassemble(outcome.bytes, rip, bits) : [],
    block('log', outcome.log),
    block('exits', outcome.exits.slice(-EXITS_SHOWN).map(describeExit)),
    block('instructions', outcome.trace ?? []),
    registerRows(regs),
  ]
  return blocks
    .flat()
    .filter((line) => line !== '')
    .join('\n')
}

function block(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : [`${title}:`, ...lines.map((line) => `  ${line}`)]
}

function registerRows(regs: KvmRegs): string[] {
  const names = Object.keys(regs) as (keyof KvmRegs)[]
  const cells = names.map(
    (name) => `${name.padEnd(6)} ${regs[name].toString(16).padStart(16, '0')}`,
  )
  return Array.from({ length: Math.ceil(cells.length / 4) }, (_, i) =>
    cells.slice(i * 4, i * 4 + 4).join('  '),
  )
}
