// When what happened on the way from the process's start to the guest's user space: marks that the machine
// sets, and stages of a kernel told by what it prints and by the devices it first touches.

/** A moment in a machine's life. */
export interface TimelineMark {
  readonly name: string
  /** Milliseconds since this process, or Worker, was started (`performance.now()`). */
  readonly atMs: number
}

/** What kernels print at turning points; each counts once. */
const MESSAGES: readonly (readonly [pattern: RegExp, name: string])[] = [
  [/Linux version/, 'kernel: first message'],
  [/console \[ttyS0\] enabled/, 'kernel: console'],
  [/smp: Brought up/, 'kernel: processors up'],
  [/Unpacking initramfs/, 'kernel: unpacks initramfs'],
  [/Freeing unused kernel/, 'kernel: done'],
  [/Run \S+ as init process/, 'init'],
]

/** Ports whose first access, as far as it reaches JavaScript, tells how far a kernel has come. */
const PORTS: readonly (readonly [port: number, name: string])[] = [
  [0x71, 'kernel: reads the clock'],
  [0x602, 'kernel: turns ACPI on'],
  [0xcfc, 'kernel: sets up PCI'],
  [0x3f9, 'kernel: sets up the serial port'],
]

const LONGEST_LINE = 512

/** The marks of one machine, in order. */
export class Timeline {
  /** By the clock behind `performance`, which Node loads when it is first used. */
  readonly #marks: { readonly name: string; readonly ns: bigint }[] = []
  #originMs: number | undefined
  readonly #messages = [...MESSAGES]
  readonly #ports = new Map(PORTS)
  #line = ''

  /** Everything so far. */
  get marks(): readonly TimelineMark[] {
    this.#originMs ??= performance.now() - Number(process.hrtime.bigint()) / 1e6
    const origin = this.#originMs
    const marks = this.#marks.map(({ name, ns }) => ({ name, atMs: origin + Number(ns) / 1e6 }))
    return [{ name: 'process start', atMs: 0 }, ...marks]
  }

  /** Sets a mark now. */
  mark(name: string): void {
    this.#marks.push({ name, ns: process.hrtime.bigint() })
  }

  /** A byte that the guest printed. */
  onByte(byte: number): void {
    if (this.#line === '' && !this.#has('first output')) this.mark('first output')
    if (this.#messages.length === 0) return
    if (byte !== 0x0a && this.#line.length < LONGEST_LINE) {
      this.#line += String.fromCharCode(byte)
      return
    }
    const found = this.#messages.findIndex(([pattern]) => pattern.test(this.#line))
    if (found >= 0) this.mark(this.#messages.splice(found, 1)[0]![1])
    this.#line = ''
  }

  /** An access of the guest to a port. */
  onPort(port: number): void {
    const name = this.#ports.get(port)
    if (name === undefined) return
    this.#ports.delete(port)
    this.mark(name)
  }

  #has(name: string): boolean {
    return this.#marks.some((mark) => mark.name === name)
  }
}
