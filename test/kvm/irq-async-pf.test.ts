// Asynchronous page faults: a guest that touches a page which the host has yet to get does other work
// meanwhile, and an interrupt tells it when the page is there.

import { expect, test } from 'vitest'
import { Userfault } from '../../src/index.js'
import { asm, guest } from '../../src/testing/index.js'
import { MSR } from '../../src/x86/index.js'
import { needs } from '../helpers/probe.js'
import { waitUntil } from '../helpers/wait-until.js'

const PAGE = 0x3_0000
const READY_VECTOR = 0x61
const ENABLED = 1n
const AS_INTERRUPT = 8n
const NOT_PRESENT = 1
/** Told when the feature is turned on: whoever waits for a page shall look again. */
const ALL = -1
const APIC = 0xfee0_0000
const EOI = 0xb0

test('the guest works on until its page is there', async (context) => {
  needs('KVM_CAP_ASYNC_PF_INT')(context)
  if (!Userfault.support()) context.skip('this process may not use userfaultfd')
  using g = await guest({ mode: 'long', ring: 3, irqchip: 'kernel' })
  const [flags, token, ready, work] = [0, 4, 64, 68].map((offset) => g.data + BigInt(offset))
  g.pages.map(BigInt(APIC), APIC, 0x1000)
  g.vcpu.updateLapic((lapic) => lapic.set('SIVR', 0x1ff))
  g.vcpu.setMsrs([
    { index: MSR.MSR_KVM_ASYNC_PF_INT, data: BigInt(READY_VECTOR) },
    { index: MSR.MSR_KVM_ASYNC_PF_EN, data: g.data | ENABLED | AS_INTERRUPT },
  ])
  g.handle(
    14,
    asm`
      mov eax, [abs ${flags}]; ${g.report()}
      mov rax, cr2; ${g.report()}
      mov dword ptr [abs ${flags}], 0
      sti
    wait:
      inc dword ptr [abs ${work}]
      cmp dword ptr [abs ${ready}], 0
      je wait
      add rsp, 8
      iretq`,
  )
  g.handle(
    READY_VECTOR,
    asm`
      push rax; push rcx; push rdx
      mov eax, [abs ${token}]
      cmp eax, ${ALL}
      je taken
      mov [abs ${ready}], eax; ${g.report()}
    taken:
      mov dword ptr [abs ${token}], 0
      mov ecx, ${MSR.MSR_KVM_ASYNC_PF_ACK}; mov eax, 1; xor edx, edx; wrmsr
      mov rax, ${APIC + EOI}; mov dword ptr [rax], 0
      pop rdx; pop rcx; pop rax
      iretq`,
  )
  const worked = () => g.memory.readU32(Number(work))
  g.withhold(PAGE, 0x1000, async () => {
    const before = worked()
    await waitUntil(() => worked() > before + 1000, 2000).catch(() => {})
    return new Uint8Array(0x1000).fill(0x5a)
  })
  const [outcome] = await g.runAll(asm`mov eax, [abs ${PAGE}]; ${g.report()}`, {
    timeoutMs: 15_000,
    regs: { rflags: 0x202n },
  })
  expect(outcome).toFinish()
  expect(worked()).toBeGreaterThan(1000)
  const [reason, missing, present, value] = outcome!.values
  expect([reason, value]).toEqual([NOT_PRESENT, 0x5a5a_5a5a])
  expect(present).toBe(missing)
})
