// Devices of a PC, as pure classes: a bus calls them, and they see interrupt lines, streams and
// clocks only through small interfaces. Nothing here loads the addon.

export type { A20Gate } from './a20-gate.js'
export { ACPI_GPE_COUNT, AcpiPm, type AcpiPmOptions } from './acpi-pm.js'
export {
  ACPI_PM_BASE,
  ACPI_PM_BLOCK,
  ACPI_PM_LENGTH,
  ACPI_PM_PORTS,
  ACPI_S5_SLEEP_TYPE,
  ACPI_SCI_IRQ,
  RESET_CONTROL_HARD,
  RESET_CONTROL_PORT,
} from './acpi-ports.js'
export type { BalloonStatistics } from './balloon/balloon-statistics.js'
export type { FreePages } from './balloon/free-page-hints.js'
export { NoDriverError } from './balloon/no-driver-error.js'
export type { PageRange } from './balloon/page-runs.js'
export {
  type BalloonRelease,
  VirtioBalloon,
  type VirtioBalloonOptions,
} from './balloon/virtio-balloon.js'
export {
  type BlockBackend,
  VirtioBlock,
  type VirtioBlockOptions,
} from './block/virtio-block.js'
export {
  type BlockAbilities,
  type BlockDeviceOptions,
  type BlockGeometry,
  VirtioBlockDevice,
  type WriteCache,
} from './block/virtio-block-device.js'
export {
  SECTOR_SIZE,
  VIRTIO_BLK_CONFIG,
  VIRTIO_BLK_F,
  VIRTIO_BLK_S,
  VIRTIO_BLK_T,
} from './block/virtio-block-numbers.js'
export { Bus, type BusRange, type UnclaimedAccess } from './bus.js'
export type { BusDevice } from './bus-device.js'
export { ByteInput } from './byte-input.js'
export { ByteOutput, type ByteOutputOptions } from './byte-output.js'
export { ConsolePort, type ConsolePortOptions } from './console/console-port.js'
export {
  type ConsoleSize,
  VirtioConsole,
  type VirtioConsoleOptions,
} from './console/virtio-console.js'
export {
  DEBUG_CONSOLE_PORTS,
  DEBUG_CONSOLE_SIGNATURE,
  DebugConsole,
  type DebugConsoleOptions,
} from './debug-console.js'
export { DEBUG_EXIT_PORT, DebugExit } from './debug-exit.js'
export {
  type AccessDirection,
  BusOverlapError,
  type BusPlace,
  type DeviceAccess,
  DeviceError,
  HotPlugError,
} from './errors.js'
export { FW_CFG_ITEM, FW_CFG_PORT, FW_CFG_PORTS, FwCfg } from './fw-cfg.js'
export { handleIo, handleMmio } from './handle-exit.js'
export { I8042, I8042_PORTS, type I8042Options } from './i8042.js'
export { type InterruptLine, pulse, unconnectedLine } from './interrupt-line.js'
export { MmioBus } from './mmio-bus.js'
export { formatMac, parseMac, randomMac } from './net/ethernet.js'
export {
  EthernetSwitch,
  type EthernetSwitchOptions,
  SwitchPort,
  type SwitchPortOptions,
  type SwitchPortStatistics,
} from './net/ethernet-switch.js'
export { FrameCapture } from './net/frame-capture.js'
export { FrameChannel, FrameChannelError, type FrameChannelOptions } from './net/frame-channel.js'
export { encodeFrame, FrameDecoder } from './net/frame-stream.js'
export type { NetBackend, NetPort } from './net/net-backend.js'
export {
  type NetRateLimits,
  type NetStatistics,
  NetworkDevice,
  type NetworkDeviceOptions,
} from './net/network-device.js'
export { pcapHeader, pcapRecord } from './net/pcap.js'
export { ReceiveFilter, type ReceiveMode } from './net/receive-filter.js'
export { VirtioNet } from './net/virtio-net.js'
export { controlCommand, type NetControls } from './net/virtio-net-control.js'
export {
  GUEST_OFFLOADS,
  VIRTIO_NET_CONFIG,
  VIRTIO_NET_CTRL,
  VIRTIO_NET_F,
  VIRTIO_NET_S,
} from './net/virtio-net-features.js'
export {
  type MessageInterrupt,
  type MessageInterruptFactory,
  MessageVectors,
} from './pci/message-interrupt.js'
export { MsiCapability, type MsiOptions } from './pci/msi-capability.js'
export { MsixCapability, type MsixOptions } from './pci/msix-capability.js'
export { BarSlot, type PciBar } from './pci/pci-bar.js'
export type { PciCapability } from './pci/pci-capability.js'
export { PciFunction, type PciFunctionOptions } from './pci/pci-function.js'
export {
  PCI_CONFIG_PORT,
  PCI_ECAM_SIZE,
  PCI_SHADOW_SIZE,
  type PciConfigShadow,
  PciHost,
  type PciHostOptions,
  type PciWindow,
} from './pci/pci-host.js'
export { PCI_COMMAND, PCI_REGISTER, PCI_STATUS } from './pci/pci-registers.js'
export { PM_TIMER_HZ, PmTimer, type PmTimerOptions } from './pm-timer.js'
export { PortBus } from './port-bus.js'
export { POST_CODE_PORT, PostCodePort } from './post-code-port.js'
export { type PanicEvent, PVPANIC_PORT, Pvpanic } from './pvpanic.js'
export { READS, type RegisterShadow, URGENT, WRITES } from './register-shadow.js'
export { ResetControl } from './reset-control.js'
export {
  type CmosMemorySize,
  RTC_IRQ,
  RTC_PORT,
  RTC_REGISTERS,
  RtcCmos,
  type RtcCmosOptions,
  type RtcShadow,
} from './rtc-cmos.js'
export {
  type ModemInputs,
  SERIAL_PORTS,
  Serial16550,
  type Serial16550Options,
} from './serial-16550.js'
export { SharedLine } from './shared-line.js'
export {
  SYSTEM_CONTROL_PORT,
  SystemControlPort,
  type SystemControlPortOptions,
} from './system-control-port.js'
export { nodeTimers, type TimerSource } from './timer-source.js'
export { type RateLimit, TokenBucket } from './token-bucket.js'
export type { ChainOwner, ChainParts } from './virtio/descriptor-chain.js'
export { DescriptorChain } from './virtio/descriptor-chain.js'
export type { DeviceMemory, MemoryPart } from './virtio/device-memory.js'
export type { Doorbell, DoorbellPlace, VirtioHost } from './virtio/doorbell.js'
export { PackedVirtqueue } from './virtio/packed-virtqueue.js'
export { SplitVirtqueue } from './virtio/split-virtqueue.js'
export { type QueueSetup, type VirtioContext, VirtioDevice } from './virtio/virtio-device.js'
export { VIRTIO_MMIO_SIZE, VirtioMmioTransport } from './virtio/virtio-mmio.js'
export { VIRTIO_F, VIRTIO_ID, VIRTIO_STATUS } from './virtio/virtio-numbers.js'
export { VirtioPciTransport } from './virtio/virtio-pci.js'
export { VirtioRng } from './virtio/virtio-rng.js'
export { type VirtioOptions, VirtioTransport } from './virtio/virtio-transport.js'
export type { QueueLayout, Virtqueue } from './virtio/virtqueue.js'
export { VirtqueueError } from './virtio/virtqueue-error.js'
export {
  VirtioVsock,
  type VirtioVsockOptions,
  VSOCK_HOST_CID,
  type VsockConnectOptions,
} from './vsock/virtio-vsock.js'
export { VsockError } from './vsock/vsock-error.js'
export {
  VsockServer,
  type VsockServerEvents,
  type VsockServerOptions,
} from './vsock/vsock-server.js'
export { VsockSocket, type VsockSocketOptions, type VsockType } from './vsock/vsock-socket.js'
