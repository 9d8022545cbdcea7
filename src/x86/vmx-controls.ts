// Names of the bits of VMX's control fields. They are the SDM's names in camel case; a bit that a
// processor lacks is simply never allowed to be 1 in the capability register.

import { type BitFields, flag } from './bitfields.js'

/** Pin-based VM-execution controls. Source: SDM vol. 3C §25.6.1, table 25-5. */
export const VMX_PIN_CONTROLS = {
  externalInterruptExiting: flag(0),
  nmiExiting: flag(3),
  virtualNmis: flag(5),
  activateVmxPreemptionTimer: flag(6),
  processPostedInterrupts: flag(7),
} satisfies BitFields

/** Primary processor-based controls. Source: SDM vol. 3C §25.6.2, table 25-6. */
export const VMX_PRIMARY_CONTROLS = {
  interruptWindowExiting: flag(2),
  useTscOffsetting: flag(3),
  hltExiting: flag(7),
  invlpgExiting: flag(9),
  mwaitExiting: flag(10),
  rdpmcExiting: flag(11),
  rdtscExiting: flag(12),
  cr3LoadExiting: flag(15),
  cr3StoreExiting: flag(16),
  activateTertiaryControls: flag(17),
  cr8LoadExiting: flag(19),
  cr8StoreExiting: flag(20),
  useTprShadow: flag(21),
  nmiWindowExiting: flag(22),
  movDrExiting: flag(23),
  unconditionalIoExiting: flag(24),
  useIoBitmaps: flag(25),
  monitorTrapFlag: flag(27),
  useMsrBitmaps: flag(28),
  monitorExiting: flag(29),
  pauseExiting: flag(30),
  activateSecondaryControls: flag(31),
} satisfies BitFields

/** Secondary processor-based controls. Source: SDM vol. 3C §25.6.2, table 25-7. */
export const VMX_SECONDARY_CONTROLS = {
  virtualizeApicAccesses: flag(0),
  enableEpt: flag(1),
  descriptorTableExiting: flag(2),
  enableRdtscp: flag(3),
  virtualizeX2apicMode: flag(4),
  enableVpid: flag(5),
  wbinvdExiting: flag(6),
  unrestrictedGuest: flag(7),
  apicRegisterVirtualization: flag(8),
  virtualInterruptDelivery: flag(9),
  pauseLoopExiting: flag(10),
  rdrandExiting: flag(11),
  enableInvpcid: flag(12),
  enableVmFunctions: flag(13),
  vmcsShadowing: flag(14),
  enableEnclsExiting: flag(15),
  rdseedExiting: flag(16),
  enablePml: flag(17),
  eptViolationVe: flag(18),
  concealVmxFromPt: flag(19),
  enableXsaves: flag(20),
  enablePasidTranslation: flag(21),
  modeBasedExecuteControlForEpt: flag(22),
  subPageWritePermissionsForEpt: flag(23),
  ptUsesGuestPhysicalAddresses: flag(24),
  useTscScaling: flag(25),
  enableUserWaitAndPause: flag(26),
  enablePconfig: flag(27),
  enableEnclvExiting: flag(28),
  vmmBusLockDetection: flag(30),
  instructionTimeout: flag(31),
} satisfies BitFields

/** Tertiary processor-based controls, a 64-bit field. Source: SDM vol. 3C §25.6.2, table 25-8. */
export const VMX_TERTIARY_CONTROLS = {
  loadiwkeyExiting: flag(0),
  enableHlat: flag(1),
  eptPagingWriteControl: flag(2),
  guestPagingVerification: flag(3),
  ipiVirtualization: flag(4),
  enableMsrListInstructions: flag(6),
  virtualizeSpecCtrl: flag(7),
} satisfies BitFields

/** Primary VM-exit controls. Source: SDM vol. 3C §25.7.1, table 25-13. */
export const VMX_EXIT_CONTROLS = {
  saveDebugControls: flag(2),
  hostAddressSpaceSize: flag(9),
  loadPerfGlobalCtrl: flag(12),
  acknowledgeInterruptOnExit: flag(15),
  savePat: flag(18),
  loadPat: flag(19),
  saveEfer: flag(20),
  loadEfer: flag(21),
  saveVmxPreemptionTimer: flag(22),
  clearBndcfgs: flag(23),
  concealVmxFromPt: flag(24),
  clearRtitCtl: flag(25),
  clearLbrCtl: flag(26),
  clearUinv: flag(27),
  loadCetState: flag(28),
  loadPkrs: flag(29),
  savePerfGlobalCtrl: flag(30),
  activateSecondaryControls: flag(31),
} satisfies BitFields

/** VM-entry controls. Source: SDM vol. 3C §25.8.1, table 25-15. */
export const VMX_ENTRY_CONTROLS = {
  loadDebugControls: flag(2),
  ia32eModeGuest: flag(9),
  entryToSmm: flag(10),
  deactivateDualMonitorTreatment: flag(11),
  loadPerfGlobalCtrl: flag(13),
  loadPat: flag(14),
  loadEfer: flag(15),
  loadBndcfgs: flag(16),
  concealVmxFromPt: flag(17),
  loadRtitCtl: flag(18),
  loadUinv: flag(19),
  loadCetState: flag(20),
  loadGuestLbrCtl: flag(21),
  loadPkrs: flag(22),
} satisfies BitFields

/** VM functions (IA32_VMX_VMFUNC). Source: SDM vol. 3C §25.6.14, table 25-10. */
export const VMX_VM_FUNCTIONS = {
  eptpSwitching: flag(0),
} satisfies BitFields
