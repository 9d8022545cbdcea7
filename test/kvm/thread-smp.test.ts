// 64 processors, each on its own thread, started by INIT and SIPI; `npm run bench -- smp` has 1024.

import { expect, test } from 'vitest'
import { findCpuidEntry } from '../../src/x86/index.js'
import { createGuest } from '../helpers/guest.js'
import { waitUntil } from '../helpers/wait-until.js'

const PROCESSORS = 64
const AP_ENTRY = 0x9000
const COUNTERS = 0x4000

/** x2APIC on, INIT and SIPI (vector 9) to all but itself, by writes of MSRs. */
const BOOT = [
  ...[0x66, 0xb9, 0x1b, 0x00, 0x00, 0x00, 0x0f, 0x32], // mov ecx, 0x1b; rdmsr
  ...[0x66, 0x0d, 0x00, 0x0c, 0x00, 0x00, 0x0f, 0x30], // or eax, 0xc00; wrmsr
  ...[0x66, 0x31, 0xd2], // xor edx, edx
  ...[0x66, 0xb9, 0x0f, 0x08, 0x00, 0x00], // mov ecx, 0x80f
  ...[0x66, 0xb8, 0xff, 0x01, 0x00, 0x00, 0x0f, 0x30], // mov eax, 0x1ff; wrmsr
  ...[0x66, 0xb9, 0x30, 0x08, 0x00, 0x00], // mov ecx, 0x830
  ...[0x66, 0xb8, 0x00, 0x45, 0x0c, 0x00, 0x0f, 0x30], // mov eax, 0xc4500; wrmsr
  ...[0x66, 0xb8, 0x09, 0x46, 0x0c, 0x00, 0x0f, 0x30], // mov eax, 0xc4609; wrmsr
  ...[0x66, 0xff, 0x06, 0x00, 0x40], // L: inc dword [0x4000]
  ...[0xeb, 0xf9], // jmp L
]

/** Takes a number and counts, without end, in the doubleword of that number. */
const AP = [
  ...[0x31, 0xc0, 0x8e, 0xd8], // xor ax, ax; mov ds, ax
  ...[0xb8, 0x01, 0x00], // mov ax, 1
  ...[0xf0, 0x0f, 0xc1, 0x06, 0x02, 0x05], // lock xadd [0x502], ax
  ...[0x89, 0xc3, 0xc1, 0xe3, 0x02], // mov bx, ax; shl bx, 2
  ...[0x66, 0xff, 0x87, 0x04, 0x40], // L: inc dword [bx + 0x4004]
  ...[0xeb, 0xf9], // jmp L
]

test(`${PROCESSORS} processors start, count, and are stopped while they count`, async () => {
  using guest = createGuest(BOOT, { irqchip: true })
  const { kvm, vm, vcpu, memory } = guest
  memory.write(AP_ENTRY, Uint8Array.from(AP))
  const cpuid = kvm.getSupportedCpuid()
  const features = findCpuidEntry(cpuid, 1)!
  features.ecx = (features.ecx | (1 << 21)) >>> 0 // x2APIC
  const vcpus = [vcpu]
  for (let id = 1; id < PROCESSORS; id++) vcpus.push(vm.createVcpu(id))
  for (const each of vcpus) each.setCpuid2(cpuid)
  // The bootstrap processor last: the others wait for its IPIs inside KVM_RUN.
  for (const each of [...vcpus].reverse()) each.start()
  const counts = () => vcpus.map((_, i) => memory.readU32(COUNTERS + 4 * i))
  await waitUntil(() => counts().every((count) => count > 0), 20_000)
  const stops = vcpus.map((each) => each.stop())
  await Promise.all(stops)
  const stopped = counts()
  await new Promise((resolve) => setTimeout(resolve, 5))
  expect(counts()).toEqual(stopped)
  expect(vcpus.every(({ tid }) => tid === undefined)).toBe(true)
  for (const each of vcpus) each.close()
})
