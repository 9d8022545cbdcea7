// A Worker that runs vCPUs as bench/exit.ts does, beside the C loop on the same thread.

import { parentPort, workerData } from 'node:worker_threads'
import { Kvm } from 'node-kvm'
import { loadLoops } from './build.js'
import { exitLoop } from './exit-loop.js'
import { createGuest, PORT_LOOP } from './guests.js'
import { compare } from './harness.js'

const loops = loadLoops()
using kvm = Kvm.open()
const sides = () => {
  const vcpu = createGuest(kvm, PORT_LOOP)
  const guest = loops.createGuest(PORT_LOOP)
  return {
    c: (count: number) => void loops.exitLoop(guest, count),
    ours: (count: number) => void exitLoop(vcpu, count),
  }
}
parentPort!.postMessage(compare(loops, sides, workerData))
