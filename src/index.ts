/**
 * The KVM API for Node.js: open `/dev/kvm`, create VMs, give them RAM, run vCPUs.
 *
 * @packageDocumentation
 */

export type {
  CapabilityParameters,
  NoArguments,
  Switch,
  VcpuCapabilityArguments,
  VcpuCapabilityName,
  VmCapabilityArguments,
  VmCapabilityName,
} from './core/capabilities/capability-arguments.js'
export type { CapabilityName } from './core/capabilities/capability-number.js'
export type { EnableCap } from './core/capabilities/enable-cap.js'
export type { EncryptCommand, EncryptTarget } from './core/confidential/encrypt-command.js'
export { Sev, type SevInit, type SevLaunchStart, type SevPacket } from './core/confidential/sev.js'
export {
  SevMigration,
  type SevReceiveStart,
  type SevSendStart,
} from './core/confidential/sev-migration.js'
export {
  Snp,
  type SnpLaunchFinish,
  type SnpLaunchStart,
  type SnpLaunchUpdate,
} from './core/confidential/snp.js'
export { Tdx, type TdxCapabilities, type TdxInitVm } from './core/confidential/tdx.js'
export { Device } from './core/device.js'
export { AbortError, KvmError, type KvmErrorDetails } from './core/errors.js'
export { CoalescedRing, type CoalescedWrite } from './core/exits/coalesced-ring.js'
export type { CoalescedHandler } from './core/exits/coalesced-writes.js'
export type { ExitHandler, Registration } from './core/exits/exit-handlers.js'
export type { ExitCount, ExitStatistics } from './core/exits/exit-statistics.js'
export {
  type ExitTrace,
  type TracedExit,
  type TraceEvent,
  traceToJson,
} from './core/exits/exit-trace.js'
export type * from './core/exits/exits.js'
export type {
  CounterRegister,
  IndexedRegisters,
  NativeAnswer,
  RegisterFile,
} from './core/exits/native-answer.js'
export type * from './core/exits/rare-exits.js'
export { type SunkWrite, WriteSink, type WriteSinkOptions } from './core/exits/write-sink.js'
export { KvmFile } from './core/file.js'
export type { HostLimits } from './core/host/host-capabilities.js'
export type { HostCpu } from './core/host/host-cpu.js'
export type { HostCpuid, HostCpuidLeaf } from './core/host/host-cpuid.js'
export type { HostDevice } from './core/host/host-device.js'
export type { HostEngine } from './core/host/host-engine.js'
export type { HostFeature, HostFeatures } from './core/host/host-features.js'
export type { GuestExecution, HostGuestExecution } from './core/host/host-guest-probe.js'
export type { HostMemory, HugePagePool } from './core/host/host-memory.js'
export type { HostModule } from './core/host/host-modules.js'
export type { HostMsr } from './core/host/host-msrs.js'
export {
  type AvailableHostReport,
  type HostFacts,
  type HostReport,
  type HostReportOptions,
  hostReport,
  hostReportToJson,
  type UnavailableHostReport,
} from './core/host/host-report.js'
export type { HostVmx } from './core/host/host-vmx.js'
export {
  type StartProcessorsOptions,
  startApplicationProcessors,
} from './core/interrupts/application-processors.js'
export { EventFd, type EventFdOptions } from './core/interrupts/event-fd.js'
export type { GsiRoute } from './core/interrupts/gsi-route.js'
export { type GsiRoutes, GsiRouting } from './core/interrupts/gsi-routing.js'
export { IoEventFd, type IoEventFdOptions } from './core/interrupts/io-event-fd.js'
export { IrqFd, type IrqFdOptions } from './core/interrupts/irq-fd.js'
export { Kvm } from './core/kvm.js'
export type { EachRange } from './core/memory/dirty-bits.js'
export { DirtyRing } from './core/memory/dirty-ring.js'
export {
  type DirtyCollection,
  type DirtyMethod,
  DirtyTracker,
  type DirtyTrackerOptions,
} from './core/memory/dirty-tracker.js'
export { GuestMemfd } from './core/memory/guest-memfd.js'
export type { MemoryPart, StructCodec } from './core/memory/memory-access.js'
export type { MemoryAdvice } from './core/memory/memory-host.js'
export type {
  FileBacking,
  HugePageBacking,
  MemoryBacking,
  MemoryOptions,
  NumaPolicy,
} from './core/memory/memory-options.js'
export type { MemorySlot } from './core/memory/memory-slots.js'
export { ksmStatistics, type MemoryUsage, thpStatistics } from './core/memory/memory-usage.js'
export type { PageState, Residency } from './core/memory/residency.js'
export {
  Userfault,
  type UserfaultStatistics,
  type UserfaultSupport,
} from './core/memory/userfault.js'
export type {
  MinorHandler,
  MissingHandler,
  PageSource,
  UserfaultOptions,
  WriteHandler,
} from './core/memory/userfault-options.js'
export { WorkingSet } from './core/memory/working-set.js'
export { GuestMemory, type MemoryRange, type MemoryRegion } from './core/memory.js'
export { PlainFile } from './core/plain-file.js'
export type { SharedMemory, SharedVcpu, SharedVm } from './core/shared.js'
export type { Stat, StatBucket, StatType, StatUnit, StatValue } from './core/stat.js'
export { parseState, stringifyState } from './core/state/state-text.js'
export { VCPU_STATE_VERSION, type VcpuState } from './core/state/state-vcpu.js'
export { VM_STATE_VERSION, type VmState } from './core/state/state-vm.js'
export { StatsFd } from './core/stats-fd.js'
export type { ThreadEventMap, ThreadEvents } from './core/threads/thread-events.js'
export type { ThreadScheduler } from './core/threads/thread-scheduler.js'
export {
  enableKvmclock,
  type PvClock,
  pvClockNanoseconds,
  readPvClock,
} from './core/time/kvmclock.js'
export { enableStealTime, readStealTime, type StealTime } from './core/time/steal-time.js'
export {
  type GuestDebugOptions,
  guestDebug,
  type HardwareBreakpoint,
} from './core/vcpu/guest-debug.js'
export {
  type MmuSummary,
  mmuSummary,
  type VcpuMmuSummary,
  vcpuMmuSummary,
} from './core/vcpu/mmu-summary.js'
export { GUEST_SSP_REG_ID, msrRegId } from './core/vcpu/reg-id.js'
export type { RunState } from './core/vcpu/run-state.js'
export type { SyncRegs } from './core/vcpu/sync-regs.js'
export type { MsrEntry } from './core/vcpu/vcpu-msrs.js'
export type { NestedState } from './core/vcpu/vcpu-nested.js'
export type { Translation } from './core/vcpu/vcpu-registers.js'
export type { StartOptions } from './core/vcpu/vcpu-threads.js'
export type { RunOptions } from './core/vcpu.js'
export { Vcpu } from './core/vcpu.js'
export type { ClockToSet } from './core/vm/vm-clock.js'
export type { EncryptedRegion } from './core/vm/vm-confidential.js'
export type { CreateDevice } from './core/vm/vm-devices.js'
export type { ClearDirtyLog } from './core/vm/vm-dirty.js'
export type { CoalescedZone, HypervEventfd, Ioeventfd, Irqfd } from './core/vm/vm-events.js'
export type { MsrFilter, MsrFilterRange, PmuEventFilter } from './core/vm/vm-filters.js'
export type { MemoryAttributes, UserMemoryRegion, UserMemoryRegion2 } from './core/vm/vm-memory.js'
export type { MsiToSignal } from './core/vm/vm-routing.js'
export type {
  XenEvtchnEventFd,
  XenHvmAttrToSet,
  XenHvmConfig,
  XenSharedInfo,
} from './core/vm/vm-xen.js'
export { Vm } from './core/vm.js'
export {
  type DatagramAddress,
  DatagramBackend,
  type StreamAddress,
  StreamBackend,
  Tap,
  TapNet,
  type TapNetOptions,
  type TapOptions,
  TUN_F,
} from './io/index.js'
export {
  type DiskLimit,
  type DiskStatistics,
  VirtioDisk,
  type VirtioDiskOptions,
} from './io/virtio-disk.js'
export type { FirmwareBoot, FlatBoot, KernelBoot, MachineBoot } from './machine/boot.js'
export { MachineCrash, type VcpuReport } from './machine/crash.js'
export type { CpuOptions } from './machine/guest-cpuid.js'
export type { Image, ImageProgress, OnImageProgress } from './machine/image.js'
export {
  Machine,
  type MachineEnd,
  type MachineEvents,
  type MachineOptions,
  type MachineState,
} from './machine/machine.js'
export type { DevicePlace, DevicePlaces } from './machine/native-devices.js'
export type { Timeline, TimelineMark } from './machine/timeline.js'
export type { MachineDevice } from './machine/virtio-devices.js'
export type { CpuModel } from './x86/cpu-models.js'
export type { PhysicalMemory } from './x86/physical-memory.js'
