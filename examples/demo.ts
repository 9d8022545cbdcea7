// `npm run demo`: shows the TypeScript of a virtual machine, then runs it.

import { readFileSync } from 'node:fs'
import { Kvm } from 'node-kvm'
import { runSmpGuest } from './smp.js'

const reason = Kvm.unavailableReason()
if (reason !== undefined) {
  console.error(reason)
  process.exit(1)
}
console.log(readFileSync(new URL('smp.ts', import.meta.url), 'utf8'))
console.log('---- and this is what it prints ----\n')
const began = performance.now()
const status = await runSmpGuest(process.stdout)
console.log(
  `\nThe guest ended with status ${status} after ${Math.round(performance.now() - began)} ms.`,
)
process.exitCode = status
