// The code in a guest's RAM, and what happens where in it.

import type { GuestMemory } from '../core/memory.js'
import type { Source } from './assembler/asm.js'
import { assemble } from './assembler/assemble.js'
import type { Bits } from './assembler/opcodes.js'
import type { Program } from './assembler/program.js'
import type { GuestCall, SafeCall } from './calling-cpu.js'
import { CALL_SIZE } from './layout.js'

/** An instruction that may raise something. */
export interface SafePlace {
  readonly begin: bigint
  /** The instruction behind it. */
  readonly end: bigint
  readonly tell: SafeCall
  /** Where the code goes on afterwards. */
  readonly next: bigint
}

/** Programs are kept: tests run the same few again and again. */
const KEPT = 256

/** Where an OUT stands that KVM reports with RIP at it or behind it. */
const OUT_SIZE = 2n

/** Assembles code into RAM. */
export class CodeSpace {
  readonly #memory: GuestMemory
  readonly #constants: Readonly<Record<string, bigint>>
  readonly #programs = new Map<string, Program>()
  readonly #calls = new Map<bigint, GuestCall>()
  #safe: SafePlace[] = []

  constructor(memory: GuestMemory, constants: Readonly<Record<string, bigint>>) {
    this.#memory = memory
    this.#constants = constants
  }

  /** Assembles a source for an address. */
  assemble({ source }: Source, origin: bigint, bits: Bits): Program {
    const key = `${origin}:${bits}:${source}`
    const known = this.#programs.get(key)
    if (known) return known
    const program = assemble(source, { bits, origin, constants: this.#constants })
    if (this.#programs.size === KEPT) this.#programs.clear()
    this.#programs.set(key, program)
    return program
  }

  /** Puts a program into RAM, with what its source calls. What was there is forgotten. */
  load(program: Program, { hooks }: Source): void {
    const { origin, bytes, marks } = program
    this.#memory.write(Number(origin), bytes)
    this.#forget(origin, origin + BigInt(bytes.length))
    for (const [mark, hook] of hooks) {
      marks.get(mark)!.forEach((begin, i) => {
        if ('call' in hook) {
          this.#calls.set(begin, hook.call)
          return
        }
        const end = marks.get(hook.next)![i]!
        this.#safe.push({ begin, end, tell: hook.safe, next: end + CALL_SIZE })
      })
    }
  }

  #forget(from: bigint, to: bigint): void {
    if (this.#calls.size === 0) return
    for (const address of this.#calls.keys()) {
      if (address >= from && address < to) this.#calls.delete(address)
    }
    this.#safe = this.#safe.filter(({ begin }) => begin < from || begin >= to)
  }

  /** Forgets all of it. */
  clear(): void {
    this.#calls.clear()
    this.#safe = []
  }

  /** What is called where the vCPU has left the guest. */
  callAt(rip: bigint): GuestCall | undefined {
    return this.#calls.get(rip) ?? this.#calls.get(rip - OUT_SIZE)
  }

  /** The place whose instruction has raised something: a fault's RIP is at it, a trap's behind it. */
  safeAt(rip: bigint): SafePlace | undefined {
    return this.#safe.find(({ begin, end }) => rip >= begin && rip <= end)
  }
}
