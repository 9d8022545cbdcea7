// The state that a test guest begins with: CPUID, special registers, MSRs.

import type { VmCapabilityArguments } from '../core/capabilities/capability-arguments.js'
import { KvmError } from '../core/errors.js'
import type { Vcpu } from '../core/vcpu.js'
import type { Vm } from '../core/vm.js'
import { invalidArgValue, type KvmSregs } from '../uapi/index.js'
import type { BitFields } from '../x86/bitfields.js'
import { flagBits } from '../x86/bitfields.js'
import { CR0, CR4 } from '../x86/control-registers.js'
import type { CpuidFeatureName } from '../x86/cpuid-features.js'
import { CpuidTable } from '../x86/cpuid-table.js'
import { withTopology } from '../x86/cpuid-topology.js'
import { EFER } from '../x86/efer.js'
import { MSR, type MsrName } from '../x86/msr.js'
import { realModeSegment, type Segment, unusableSegment } from '../x86/segment.js'
import { codeSegment, dataSegment } from './descriptors.js'
import type { GuestImage } from './guest-image.js'
import * as layout from './layout.js'
import { controlRegisters, type Mode, type ModeName, type Ring } from './modes.js'
import { UnsupportedModeError } from './unsupported.js'

/** Flags of a register by their names in the manuals, in any case. */
type Flags<D extends BitFields> = { [Name in keyof D & string as Lowercase<Name>]?: boolean }

/** How a test guest begins. */
export interface GuestOptions {
  /** `'long'` if nothing is said. */
  mode?: ModeName
  /** 0 if nothing is said. */
  ring?: Ring
  /** Flags to set or clear besides those that the mode needs. */
  cr0?: Flags<typeof CR0>
  cr4?: Flags<typeof CR4>
  efer?: Flags<typeof EFER>
  /** The state components that XSETBV would turn on; sets CR4.OSXSAVE. */
  xcr0?: bigint
  /** Features to show or hide; all others are what KVM supports. */
  cpuid?: Partial<Record<CpuidFeatureName, boolean>>
  /** MSRs to set, by name. */
  msrs?: Partial<Record<MsrName, bigint>>
  /**
   * Interrupt controllers in the kernel (none): all of them, or the LAPICs alone. HLT then waits for an
   * interrupt.
   */
  irqchip?: 'none' | 'kernel' | 'split'
  /** Capabilities of the VM to enable, before there are vCPUs, with their arguments. */
  capabilities?: Partial<VmCapabilityArguments>
  /** Bytes of RAM, at least 256 KiB. */
  memory?: number
  /** How many vCPUs there are (1); see {@link TestGuest.runAll}. */
  cpus?: number
}

function withFlags<D extends BitFields>(
  register: string,
  fields: D,
  value: bigint,
  flags: Record<string, boolean | undefined> = {},
): bigint {
  const names = new Map(Object.keys(fields).map((name) => [name.toLowerCase(), name]))
  let result = value
  for (const [key, on] of Object.entries(flags)) {
    const name = names.get(key.toLowerCase())
    if (name === undefined || fields[name]!.kind !== 'flag') {
      throw invalidArgValue(`options.${register}.${key}`, `is no flag of ${register.toUpperCase()}`)
    }
    const bit = flagBits(fields, name as never)
    if (on !== undefined) result = on ? result | bit : result & ~bit
  }
  return result
}

/** Interrupt routes that a split chip keeps for its IOAPIC. */
const IOAPIC_ROUTES = 24

/** What a VM has before its vCPUs. */
export function prepareVm(vm: Vm, { irqchip = 'none', capabilities = {} }: GuestOptions): void {
  if (irqchip === 'kernel') vm.createIrqchip()
  if (irqchip === 'split') vm.enableCap('KVM_CAP_SPLIT_IRQCHIP', { routes: IOAPIC_ROUTES })
  for (const [name, args] of Object.entries(capabilities))
    vm.enableCap(name as never, args as never)
}

/** What is a vCPU's own: its task, and in real mode where its stack's segment begins. */
export interface CpuSetUp {
  readonly tr: Segment
  readonly stackBase: number
}

/** The vCPU at the door of the mode, over the tables of `image`. */
export function prepareVcpu(
  vcpu: Vcpu,
  mode: Mode,
  options: GuestOptions,
  image: GuestImage,
  { tr, stackBase }: CpuSetUp,
): void {
  setCpuid(vcpu, options)
  const sregs = vcpu.getSregs()
  const ss = realModeSegment(stackBase >> 4)
  const own = mode.protected ? { tr } : stackBase === 0 ? {} : { ss }
  const special = { ...specialRegisters(sregs, mode, options, image), ...own }
  enterMode(vcpu, { ...sregs, ...special } as KvmSregs, options)
  if (options.xcr0 !== undefined) vcpu.setXcrs([{ xcr: 0, value: options.xcr0 }])
  const msrs = Object.entries(options.msrs ?? {}) as [MsrName, bigint][]
  if (msrs.length > 0) vcpu.setMsrs(msrs.map(([name, data]) => ({ index: MSR[name], data })))
}

/** What KVM supports does not change while it is loaded. */
let supported: CpuidTable | undefined

function setCpuid(vcpu: Vcpu, { cpuid = {}, cpus = 1 }: GuestOptions): void {
  supported ??= new CpuidTable(vcpu.vm.kvm.getSupportedCpuid())
  const { entries } = supported
  const own = cpus > 1 ? withTopology(entries, { cpus, vcpuId: vcpu.id }) : entries
  const table = new CpuidTable(own)
  for (const [name, on] of Object.entries(cpuid)) table.set(name, on)
  vcpu.setCpuid2(table.entries)
}

function specialRegisters(
  sregs: KvmSregs,
  mode: Mode,
  options: GuestOptions,
  { gdtLimit, idtLimit, paging }: GuestImage,
): Partial<KvmSregs> {
  const segments = mode.protected
    ? protectedSegments(mode, options.ring ?? 0)
    : realSegments(options.mode === 'unreal')
  const control = controlRegisters(mode)
  const cr4 =
    control.cr4 | paging.cr4 | (options.xcr0 === undefined ? 0n : flagBits(CR4, 'OSXSAVE'))
  return {
    ...segments,
    gdt: { ...sregs.gdt, base: BigInt(layout.GDT), limit: gdtLimit },
    idt: { ...sregs.idt, base: BigInt(mode.protected ? layout.IDT : layout.IVT), limit: idtLimit },
    cr0: withFlags('cr0', CR0, control.cr0 | paging.cr0, options.cr0),
    cr3: paging.cr3,
    cr4: withFlags('cr4', CR4, cr4, options.cr4),
    efer: withFlags('efer', EFER, control.efer | paging.efer, options.efer),
  }
}

function protectedSegments(mode: Mode, ring: Ring): Partial<KvmSregs> {
  const data = dataSegment(ring)
  return {
    cs: codeSegment(mode, ring),
    ds: data,
    es: data,
    fs: data,
    gs: data,
    ss: data,
    ldt: unusableSegment(),
  } as Partial<KvmSregs>
}

function realSegments(unreal: boolean): Partial<KvmSregs> {
  const plain = realModeSegment(0)
  const data = unreal ? { ...plain, limit: 0xffff_ffff, g: 1 } : plain
  const cs = realModeSegment(0, 'code')
  return { cs, ds: data, es: data, fs: data, gs: data, ss: plain } as Partial<KvmSregs>
}

/** Some KVMs refuse the registers of a mode that their engine lacks, others do not keep them. */
function enterMode(vcpu: Vcpu, wanted: KvmSregs, options: GuestOptions): void {
  const { mode = 'long', cr0, cr4, efer } = options
  try {
    vcpu.setSregs(wanted)
  } catch (error) {
    // Then it may be the test's own flags that are refused.
    if (cr0 || cr4 || efer || !(error instanceof KvmError)) throw error
    throw new UnsupportedModeError(mode, { cause: error })
  }
  const kept = vcpu.getSregs()
  if (kept.cr0 === wanted.cr0 && kept.cr4 === wanted.cr4 && kept.efer === wanted.efer) return
  throw new UnsupportedModeError(mode)
}
