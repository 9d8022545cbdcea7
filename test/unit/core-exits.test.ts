// Every field of every exit is where the generated layout of struct kvm_run has it: random pages are
// read by both, and what an exit object writes is read back through the layout.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Exit, ExitTable, type ExitType } from '../../src/core/exits/exits.js'
import { RunState } from '../../src/core/vcpu/run-state.js'
import { SyncRegs } from '../../src/core/vcpu/sync-regs.js'
import { decodeKvmRun, exitName, type KvmRun, layouts, StructView } from '../../src/uapi/index.js'

const PAGES = 8192
const EXIT_REASON = 2
const FIRST_UNION_BYTE = 32
const UNION_END = 288

/** Bytes for the union; every 64-bit word has 16 zero bits on top, as addresses and sizes do. */
const unionBytes = fc
  .uint8Array({ minLength: UNION_END - FIRST_UNION_BYTE, maxLength: UNION_END - FIRST_UNION_BYTE })
  .map((bytes) => bytes.map((byte, i) => (i % 8 >= 6 ? 0 : byte)))

function pageOf(reason: number, bytes: Uint8Array): StructView {
  const page = new StructView(PAGES)
  page.u8.set(bytes, FIRST_UNION_BYTE)
  page.u32[EXIT_REASON] = reason
  return page
}

/** An exit of that type, which the table of exits must give for that page. */
type Of<Type extends ExitType> = Extract<Exit, { type: Type }>
interface Case<Type extends ExitType = ExitType> {
  reason: number
  type: Type
  /** Pairs of what the exit says and what the struct has. */
  fields: (exit: Of<Type>, run: KvmRun) => [unknown, unknown][]
  /** Something written by the exit, and where it must be in the struct. */
  write?: (exit: Of<Type>, value: bigint) => (run: KvmRun) => unknown
  /** Makes a random page one that this exit can have. */
  prepare?: (page: StructView) => void
}

const cases: Case[] = []
function exit<Type extends ExitType>(
  reason: number,
  type: Type,
  rest: Omit<Case<Type>, 'reason' | 'type'>,
) {
  cases.push({ reason, type, ...rest } as unknown as Case)
}

const low32 = (value: bigint) => Number(BigInt.asUintN(32, value))

exit(0, 'unknown', { fields: (e, { hw }) => [[e.hardwareExitReason, hw!.hardware_exit_reason]] })
exit(1, 'exception', {
  fields: (e, { ex }) => [
    [e.exception, ex!.exception],
    [e.errorCode, ex!.error_code],
  ],
})
exit(2, 'io', {
  prepare: (page) => {
    page.u8[33] = [1, 2, 4][page.u8[33]! % 3]!
    page.u32[9] = 1 + (page.u32[9]! % 3)
    page.u64[5] = 4096n
  },
  fields: (e, { io }) => [
    [e.direction, io!.direction === 1 ? 'out' : 'in'],
    [e.isWrite, io!.direction === 1],
    [e.size, io!.size],
    [e.port, io!.port],
    [e.count, io!.count],
    [e.data.length, io!.size * io!.count],
  ],
})
exit(3, 'hypercall', {
  fields: (e, { hypercall }) => [
    [e.nr, low32(hypercall!.nr)],
    [e.args, hypercall!.args],
    [e.flags, hypercall!.flags],
    [e.ret, hypercall!.ret],
  ],
  write: (e, value) => {
    e.ret = value
    return (run) => run.hypercall!.ret
  },
})
exit(4, 'debug', {
  fields: (e, { debug }) => [
    [e.exception, debug!.arch.exception],
    [e.pc, debug!.arch.pc],
    [e.dr6, debug!.arch.dr6],
    [e.dr7, debug!.arch.dr7],
  ],
})
exit(5, 'hlt', { fields: () => [] })
exit(6, 'mmio', {
  prepare: (page) => {
    page.u32[12] = [1, 2, 4, 8][page.u32[12]! % 4]!
  },
  fields: (e, { mmio }) => [
    [e.gpa, Number(mmio!.phys_addr)],
    [e.length, mmio!.len],
    [e.isWrite, mmio!.is_write !== 0],
    [e.data, mmio!.data],
    [e.value64, new BigUint64Array(mmio!.data.slice().buffer)[0]],
  ],
  write: (e, value) => {
    e.value64 = value
    return (run) => new BigUint64Array(run.mmio!.data.slice().buffer)[0]
  },
})
exit(7, 'irqWindowOpen', { fields: () => [] })
exit(8, 'shutdown', { fields: () => [] })
exit(9, 'failEntry', {
  fields: (e, { fail_entry }) => [
    [e.hardwareEntryFailureReason, fail_entry!.hardware_entry_failure_reason],
    [e.cpu, fail_entry!.cpu],
  ],
})
exit(10, 'intr', { fields: () => [] })
exit(11, 'setTpr', { fields: (e, run) => [[e.cr8, run.cr8]] })
exit(12, 'tprAccess', {
  fields: (e, { tpr_access }) => [
    [e.rip, tpr_access!.rip],
    [e.isWrite, tpr_access!.is_write !== 0],
  ],
})
exit(17, 'internalError', {
  prepare: (page) => {
    page.u32[8] = 1
    page.u32[9] = 3 + (page.u32[9]! % 14)
    page.u32[10]! |= 1
    page.u8[48] = page.u8[48]! % 16
  },
  fields: (e, { internal, emulation_failure: failure }) => [
    [e.suberror, internal!.suberror],
    [e.data, internal!.data.slice(0, Math.min(internal!.ndata, 16))],
    [e.flags, failure!.flags],
    [e.instruction, failure!.insn_bytes.slice(0, failure!.insn_size)],
  ],
})
exit(24, 'systemEvent', {
  prepare: (page) => {
    page.u32[9] = page.u32[9]! % 17
  },
  fields: (e, { system_event }) => [
    [e.event, system_event!.type],
    [e.data, system_event!.data!.slice(0, system_event!.ndata)],
  ],
})
exit(26, 'ioApicEoi', { fields: (e, { eoi }) => [[e.vector, eoi!.vector]] })
for (const event of [1, 2, 3]) {
  exit(27, 'hyperv', {
    prepare: (page) => {
      page.u32[8] = event
    },
    fields: (e, { hyperv }) => {
      const { synic, hcall, syndbg } = hyperv!.u
      if (synic) {
        const { msr, control, evt_page: evtPage, msg_page: msgPage } = synic
        return [[e.synic, { msr, control, evtPage, msgPage }]]
      }
      if (hcall) {
        return [
          [e.hcall, { input: hcall.input, params: hcall.params }],
          [e.result, hcall.result],
        ]
      }
      const { msr, control, status, send_page, recv_page, pending_page } = syndbg!
      const pages = { sendPage: send_page, recvPage: recv_page, pendingPage: pending_page }
      return [
        [e.syndbg, { msr, control, ...pages }],
        [e.result, status],
      ]
    },
    ...(event === 1
      ? {}
      : {
          write: (e: Of<'hyperv'>, value: bigint) => {
            e.result = value
            return ({ hyperv }: KvmRun) => hyperv!.u.hcall?.result ?? hyperv!.u.syndbg?.status
          },
        }),
  })
}
for (const [reason, type] of [
  [29, 'rdmsr'],
  [30, 'wrmsr'],
] as const) {
  exit<'rdmsr' | 'wrmsr'>(reason, type, {
    fields: (e, { msr }) => [
      [e.error, msr!.error !== 0],
      [e.reason, msr!.reason],
      [e.index, msr!.index],
      [e.data, msr!.data],
    ],
    write: (e, value) => {
      e.data = value
      e.error = value % 2n === 1n
      return ({ msr }) => (msr!.error === Number(value % 2n) ? msr!.data : 'a wrong error flag')
    },
  })
}
exit(31, 'dirtyRingFull', { fields: () => [] })
exit(32, 'apResetHold', { fields: () => [] })
exit(33, 'busLock', { fields: () => [] })
exit(34, 'xen', {
  prepare: (page) => {
    page.u32[8] = 1
  },
  fields: (e, { xen }) => {
    const hcall = xen!.u.hcall!
    return [
      [e.event, xen!.type],
      [e.longmode, hcall.longmode !== 0],
      [e.cpl, hcall.cpl],
      [e.input, hcall.input],
      [e.params, hcall.params],
      [e.result, hcall.result],
    ]
  },
  write: (e, value) => {
    e.result = value
    return (run) => run.xen!.u.hcall!.result
  },
})
exit(37, 'notify', { fields: (e, { notify }) => [[e.flags, notify!.flags]] })
exit(39, 'memoryFault', {
  fields: (e, { memory_fault: fault }) => [
    [e.flags, fault!.flags],
    [e.gpa, fault!.gpa],
    [e.size, fault!.size],
  ],
})
exit(40, 'tdx', {
  fields: (e, { tdx }) => [
    [e.flags, tdx!.flags],
    [e.nr, tdx!.nr],
    [e.data, [tdx!.unknown!.ret, ...tdx!.unknown!.data]],
    [e.ret, tdx!.unknown!.ret],
    [e.quote, { gpa: tdx!.get_quote!.gpa, size: tdx!.get_quote!.size }],
    [e.infoLeaf, tdx!.get_tdvmcall_info!.leaf],
    [e.vector, tdx!.setup_event_notify!.vector],
  ],
  write: (e, value) => {
    e.ret = value
    e.setRegisters(value, 2n, 3n, 4n)
    return ({ tdx }) => {
      const { ret, r11, r12, r13, r14 } = tdx!.get_tdvmcall_info!
      return r12 === 2n && r13 === 3n && r14 === 4n && ret === r11 ? r11 : 'other registers'
    }
  },
})
exit(43, 'snpReqCerts', {
  fields: (e, { snp_req_certs: request }) => [
    [e.gpa, request!.gpa],
    [e.npages, request!.npages],
    [e.ret, Number(request!.ret)],
  ],
  write: (e, value) => {
    e.npages = Number(value % 1000n)
    e.ret = low32(value)
    return ({ snp_req_certs: request }) =>
      request!.npages === Number(value % 1000n) ? (value & ~0xffff_ffffn) | request!.ret : 'pages'
  },
})

describe.each(cases)('exit $reason, $type', ({ reason, type, fields, prepare }) => {
  test('says what the struct has', () => {
    fc.assert(
      fc.property(unionBytes, (bytes) => {
        const page = pageOf(reason, bytes)
        prepare?.(page)
        const found = new ExitTable(page).current
        expect(found.type).toBe(type)
        const run = decodeKvmRun(page)
        for (const [said, held] of fields(found as never, run)) expect(said).toEqual(held)
      }),
    )
  })
})

describe.each(cases.filter(({ write }) => write))(
  'exit $reason, $type',
  ({ reason, write, prepare }) => {
    test('writes where the struct has it', () => {
      fc.assert(
        fc.property(unionBytes, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (bytes, value) => {
          const page = pageOf(reason, bytes)
          prepare?.(page)
          const held = write!(new ExitTable(page).current as never, value)
          expect(held(decodeKvmRun(page))).toEqual(value)
        }),
      )
    })
  },
)

test('every exit of x86 that the headers name has a class', () => {
  const page = new StructView(PAGES)
  const others = /S390|PAPR|OSI|DCR|EPR|WATCHDOG|NMI|RISCV|LOONGARCH|ARM|UNKNOWN/
  for (let reason = 1; reason < 64; reason++) {
    const name = exitName(reason)
    if (name === undefined || others.test(name)) continue
    page.u32[EXIT_REASON] = reason
    expect([name, new ExitTable(page).current.type]).not.toEqual([name, 'unknown'])
  }
})

test('an exit newer than the library can still be looked at', () => {
  const page = pageOf(999, new Uint8Array(256).fill(7))
  const { current } = new ExitTable(page)
  expect(current).toMatchObject({ type: 'unknown', reason: 999 })
  if (current.type === 'unknown') expect(current.data).toEqual(new Uint8Array(256).fill(7))
})

describe('values of a port access', () => {
  test.each([1, 2, 4])('of %i bytes', (size) => {
    const page = pageOf(2, new Uint8Array(256))
    page.u8[33] = size
    page.u32[9] = 1
    page.u64[5] = 4096n
    page.u32[1024] = 0xaabb_ccdd
    const { current } = new ExitTable(page)
    if (current.type !== 'io') throw new Error(current.type)
    expect(current.value).toBe([0, 0xdd, 0xccdd, 0, 0xaabb_ccdd][size])
    current.value = 0x1122_3344
    expect(page.u32[1024]).toBe([0, 0xaabb_cc44, 0xaabb_3344, 0, 0x1122_3344][size])
  })
})

describe('values of a memory access', () => {
  test.each([1, 2, 3, 4])('of %i bytes', (length) => {
    const page = pageOf(6, new Uint8Array(256).fill(0xee))
    page.u32[12] = length
    const { current } = new ExitTable(page)
    if (current.type !== 'mmio') throw new Error(current.type)
    expect(current.value).toBe([0, 0xee, 0xeeee, 0xee_eeee, 0xeeee_eeee][length])
    current.value = 5
    expect(current.value64).toBe(5n)
  })
})

describe('what an internal error says', () => {
  const failure = (flags: number) => {
    const page = pageOf(17, new Uint8Array(256))
    page.u32.set([1, 4, flags], 8)
    page.u8.set([3, 0x0f, 0x01, 0xd0], 48)
    const { current } = new ExitTable(page)
    if (current.type !== 'internalError') throw new Error(current.type)
    return current
  }
  test('with the instruction', () => {
    expect(failure(1).describe()).toBe('KVM cannot emulate the instruction at bytes 0f 01 d0')
    expect(failure(1).describe(() => 'xgetbv')).toMatch(/at `xgetbv`, bytes 0f 01 d0$/)
  })
  test('without it', () => {
    expect(failure(0).instruction).toBeUndefined()
    expect(failure(0).describe()).toBe(
      'KVM cannot emulate the instruction (0x0, 0xd0010f03, 0x0, 0x0)',
    )
  })
})

test('the head of the page', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
      const page = new StructView(PAGES)
      page.u8.set(bytes)
      page.u32[EXIT_REASON] = 5
      const state = new RunState(page)
      const run = decodeKvmRun(page)
      expect(state.requestInterruptWindow).toBe(run.request_interrupt_window !== 0)
      expect(state.readyForInterruptInjection).toBe(run.ready_for_interrupt_injection !== 0)
      expect(state.ifFlag).toBe(run.if_flag !== 0)
      expect(state.flags).toBe(run.flags)
      expect([state.isInSmm, state.hasBusLock, state.isInGuestMode]).toEqual(
        [1, 2, 4].map((bit) => (run.flags & bit) !== 0),
      )
      expect(state.cr8).toBe(run.cr8)
      expect(state.apicBase).toBe(run.apic_base)
      state.cr8 = 9n
      state.requestInterruptWindow = run.request_interrupt_window === 0
      expect(decodeKvmRun(page)).toMatchObject({
        cr8: 9n,
        request_interrupt_window: run.request_interrupt_window === 0 ? 1 : 0,
      })
    }),
  )
})

test('registers in the page', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 520, maxLength: 520 }), (bytes) => {
      const page = new StructView(PAGES)
      const { offset } = layouts.kvm_run.fields.s
      page.u8.set(bytes, offset)
      page.u32[EXIT_REASON] = 5
      const sync = new SyncRegs(page, 7)
      const { regs, sregs, events } = decodeKvmRun(page).s.regs
      expect(sync.getRegs()).toEqual(regs)
      expect(sync.getSregs()).toEqual(sregs)
      expect(sync.getVcpuEvents()).toEqual(events)
      for (const [name, value] of Object.entries(regs)) {
        expect(sync[name as keyof typeof regs]).toBe(value)
      }
      expect(decodeKvmRun(page)).toMatchObject({ kvm_valid_regs: 7n, kvm_dirty_regs: 0n })
      sync.r9 = 99n
      expect(decodeKvmRun(page)).toMatchObject({
        kvm_dirty_regs: 1n,
        s: { regs: { regs: { r9: 99n } } },
      })
      sync.setSregs(sregs)
      sync.setVcpuEvents(events)
      expect(decodeKvmRun(page).kvm_dirty_regs).toBe(7n)
    }),
  )
})
