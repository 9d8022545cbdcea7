// A machine that does nothing: 64 vCPUs of one VM, all halted. Prints how much of a core the whole
// process uses meanwhile, and ends with status 1 when that is 0.5 % or more.
//
//   node test/process/idle.mjs [seconds]        10 unless said

import { createGuest, HALT } from './fixtures/guest.mjs'

const seconds = Number(process.argv[2] ?? 10)
const LIMIT = 0.005

const { vm, vcpu } = createGuest(HALT, { irqchip: true })
const vcpus = [vcpu]
for (let id = 1; id < 64; id++) vcpus.push(vm.createVcpu(id))
for (const other of vcpus.slice(1)) {
  // As INIT leaves them they would wait for a SIPI: let each execute its own HLT.
  other.setMpState(0)
  other.setSregs(vcpu.getSregs())
  other.setRegs(vcpu.getRegs())
}
for (const each of vcpus) each.start(() => {})
const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
await rest(500)
const before = process.cpuUsage()
const began = performance.now()
await rest(seconds * 1000)
const { user, system } = process.cpuUsage(before)
const share = (user + system) / 1000 / (performance.now() - began)
console.log(`64 halted vCPUs: ${(share * 100).toFixed(3)} % of a core for ${seconds} s`)
await Promise.all(vcpus.map((each) => each.stop()))
const KVM_MP_STATE_HALTED = 3
const halted = vcpus.filter((each) => each.getMpState() === KVM_MP_STATE_HALTED).length
if (halted < vcpus.length) console.log(`only ${halted} of them were halted`)
process.exitCode = share < LIMIT && halted === vcpus.length ? 0 : 1
