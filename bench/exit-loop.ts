// The loop of a small VMM on our side, as bench/native/loops.c is on the other.

import type { Exit, Vcpu } from 'node-kvm'
import { MMIO_BASE } from './guests.js'

type WriteHandler = (value: number) => void

let sum = 0
const add: WriteHandler = (value) => {
  sum += value
}
const addTwice: WriteHandler = (value) => {
  sum += 2 * value
}
const subtract: WriteHandler = (value) => {
  sum -= value
}
const countOne: WriteHandler = () => {
  sum += 1
}

function table(size: number, handlers: Record<number, WriteHandler>): (WriteHandler | undefined)[] {
  return Object.assign(new Array<WriteHandler | undefined>(size).fill(undefined), handlers)
}

const portHandlers = table(0x10000, { 16: add, 32: addTwice, 128: subtract, 1016: countOne })
const mmioHandlers = table(0x100, { 0: add, 16: addTwice, 32: subtract, 48: countOne })

function handle(exit: Exit): void {
  switch (exit.type) {
    case 'io':
      portHandlers[exit.port]!(exit.value)
      break
    case 'mmio':
      mmioHandlers[exit.gpa - MMIO_BASE]!(exit.value)
      break
    default:
      throw new Error(`unexpected exit: ${exit.type}`)
  }
}

/** Runs the guest for `count` exits and hands each to its handler. Returns what they add up to. */
export function exitLoop(vcpu: Vcpu, count: number): number {
  sum = 0
  for (let i = 0; i < count; i++) handle(vcpu.run())
  return sum
}
