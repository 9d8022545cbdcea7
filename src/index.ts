/**
 * The KVM API for Node.js: open `/dev/kvm`, create VMs, give them RAM, run vCPUs.
 *
 * @packageDocumentation
 */

export {
  type StartProcessorsOptions,
  startApplicationProcessors,
} from './core/application-processors.js'
export type {
  CapabilityParameters,
  NoArguments,
  Switch,
  VcpuCapabilityArguments,
  VcpuCapabilityName,
  VmCapabilityArguments,
  VmCapabilityName,
} from './core/capability-arguments.js'
export type { CapabilityName } from './core/capability-number.js'
export { CoalescedRing, type CoalescedWrite } from './core/coalesced-ring.js'
export { Device } from './core/device.js'
export type { EachRange } from './core/dirty-bits.js'
export { DirtyRing } from './core/dirty-ring.js'
export {
  type DirtyCollection,
  type DirtyMethod,
  DirtyTracker,
  type DirtyTrackerOptions,
} from './core/dirty-tracker.js'
export type { EnableCap } from './core/enable-cap.js'
export type { EncryptCommand, EncryptTarget } from './core/encrypt-command.js'
export { AbortError, KvmError, type KvmErrorDetails } from './core/errors.js'
export { EventFd, type EventFdOptions } from './core/event-fd.js'
export type { ExitHandler, Registration } from './core/exit-handlers.js'
export type { ExitCount, ExitStatistics } from './core/exit-statistics.js'
export { type ExitTrace, type TracedExit, type TraceEvent, traceToJson } from './core/exit-trace.js'
export type * from './core/exits.js'
export { KvmFile } from './core/file.js'
export type { GsiRoute } from './core/gsi-route.js'
export { type GsiRoutes, GsiRouting } from './core/gsi-routing.js'
export { type GuestDebugOptions, guestDebug, type HardwareBreakpoint } from './core/guest-debug.js'
export { GuestMemfd } from './core/guest-memfd.js'
export type { HostLimits } from './core/host-capabilities.js'
export type { HostCpu } from './core/host-cpu.js'
export type { HostCpuid, HostCpuidLeaf } from './core/host-cpuid.js'
export type { HostDevice } from './core/host-device.js'
export type { HostEngine } from './core/host-engine.js'
export type { HostFeature, HostFeatures } from './core/host-features.js'
export type { GuestExecution, HostGuestExecution } from './core/host-guest-probe.js'
export type { HostMemory, HugePagePool } from './core/host-memory.js'
export type { HostModule } from './core/host-modules.js'
export type { HostMsr } from './core/host-msrs.js'
export {
  type AvailableHostReport,
  type HostFacts,
  type HostReport,
  type HostReportOptions,
  hostReport,
  hostReportToJson,
  type UnavailableHostReport,
} from './core/host-report.js'
export type { HostVmx } from './core/host-vmx.js'
export { IoEventFd, type IoEventFdOptions } from './core/io-event-fd.js'
export { IrqFd, type IrqFdOptions } from './core/irq-fd.js'
export { Kvm } from './core/kvm.js'
export {
  enableKvmclock,
  type PvClock,
  pvClockNanoseconds,
  readPvClock,
} from './core/kvmclock.js'
export { GuestMemory, type MemoryRange, type MemoryRegion } from './core/memory.js'
export type { MemoryPart, StructCodec } from './core/memory-access.js'
export type { MemoryAdvice } from './core/memory-host.js'
export type {
  FileBacking,
  HugePageBacking,
  MemoryBacking,
  MemoryOptions,
  NumaPolicy,
} from './core/memory-options.js'
export type { MemorySlot } from './core/memory-slots.js'
export { ksmStatistics, type MemoryUsage, thpStatistics } from './core/memory-usage.js'
export {
  type MmuSummary,
  mmuSummary,
  type VcpuMmuSummary,
  vcpuMmuSummary,
} from './core/mmu-summary.js'
export type { NativeAnswer, RegisterFile } from './core/native-answer.js'
export { PlainFile } from './core/plain-file.js'
export type * from './core/rare-exits.js'
export { GUEST_SSP_REG_ID, msrRegId } from './core/reg-id.js'
export type { PageState, Residency } from './core/residency.js'
export type { RunState } from './core/run-state.js'
export { Sev, type SevInit, type SevLaunchStart, type SevPacket } from './core/sev.js'
export {
  SevMigration,
  type SevReceiveStart,
  type SevSendStart,
} from './core/sev-migration.js'
export type { SharedMemory, SharedVcpu, SharedVm } from './core/shared.js'
export { Snp, type SnpLaunchFinish, type SnpLaunchStart, type SnpLaunchUpdate } from './core/snp.js'
export type { Stat, StatBucket, StatType, StatUnit, StatValue } from './core/stat.js'
export { parseState, stringifyState } from './core/state-text.js'
export { VCPU_STATE_VERSION, type VcpuState } from './core/state-vcpu.js'
export { VM_STATE_VERSION, type VmState } from './core/state-vm.js'
export { StatsFd } from './core/stats-fd.js'
export { enableStealTime, readStealTime, type StealTime } from './core/steal-time.js'
export type { SyncRegs } from './core/sync-regs.js'
export { Tdx, type TdxCapabilities, type TdxInitVm } from './core/tdx.js'
export type { ThreadEventMap, ThreadEvents } from './core/thread-events.js'
export type { ThreadScheduler } from './core/thread-scheduler.js'
export { Userfault, type UserfaultStatistics, type UserfaultSupport } from './core/userfault.js'
export type {
  MinorHandler,
  MissingHandler,
  PageSource,
  UserfaultOptions,
  WriteHandler,
} from './core/userfault-options.js'
export type { RunOptions } from './core/vcpu.js'
export { Vcpu } from './core/vcpu.js'
export type { MsrEntry } from './core/vcpu-msrs.js'
export type { NestedState } from './core/vcpu-nested.js'
export type { Translation } from './core/vcpu-registers.js'
export type { StartOptions } from './core/vcpu-threads.js'
export { Vm } from './core/vm.js'
export type { ClockToSet } from './core/vm-clock.js'
export type { EncryptedRegion } from './core/vm-confidential.js'
export type { CreateDevice } from './core/vm-devices.js'
export type { ClearDirtyLog } from './core/vm-dirty.js'
export type { CoalescedZone, HypervEventfd, Ioeventfd, Irqfd } from './core/vm-events.js'
export type { MsrFilter, MsrFilterRange, PmuEventFilter } from './core/vm-filters.js'
export type { MemoryAttributes, UserMemoryRegion, UserMemoryRegion2 } from './core/vm-memory.js'
export type { MsiToSignal } from './core/vm-routing.js'
export type {
  XenEvtchnEventFd,
  XenHvmAttrToSet,
  XenHvmConfig,
  XenSharedInfo,
} from './core/vm-xen.js'
export { WorkingSet } from './core/working-set.js'
export { type SunkWrite, WriteSink, type WriteSinkOptions } from './core/write-sink.js'
export type { FirmwareBoot, FlatBoot, Image, KernelBoot, MachineBoot } from './machine/boot.js'
export { MachineCrash, type VcpuReport } from './machine/crash.js'
export {
  Machine,
  type MachineEnd,
  type MachineEvents,
  type MachineOptions,
  type MachineState,
} from './machine/machine.js'
export type { PhysicalMemory } from './x86/physical-memory.js'
