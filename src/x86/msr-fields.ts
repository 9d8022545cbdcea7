// Fields of the MSRs that people touch, apart from EFER and XSS (with the control registers) and
// the VMX capability registers.

import { address, choice, field, flag } from './bitfields.js'

/** IA32_APIC_BASE. Source: SDM vol. 3A §11.4.4, figure 11-5; §11.12.1 for x2APIC. */
export const APIC_BASE = {
  /** This is the bootstrap processor. */
  BSP: flag(8),
  /** x2APIC mode. */
  EXTD: flag(10),
  /** APIC enabled. */
  EN: flag(11),
  /** Guest-physical address of the xAPIC's register page. */
  base: address(12, 40),
}

/** IA32_APIC_BASE after reset of the bootstrap processor: enabled at 0xFEE00000. */
export const APIC_BASE_RESET = 0xfee00900n

/** IA32_FEATURE_CONTROL. Source: SDM vol. 4, table 2-2, and vol. 3C §24.7. */
export const FEATURE_CONTROL = {
  /** No further writes until reset. */
  locked: flag(0),
  /** VMXON inside SMX operation. */
  vmxInsideSmx: flag(1),
  /** VMXON outside SMX operation. */
  vmxOutsideSmx: flag(2),
  senterLocalFunctions: field(8, 7),
  senterGlobal: flag(15),
  sgxLaunchControl: flag(17),
  sgxGlobal: flag(18),
  /** Local machine-check exceptions. */
  lmce: flag(20),
}

/** IA32_MISC_ENABLE. Source: SDM vol. 4, table 2-2. */
export const MISC_ENABLE = {
  /** Fast REP MOVS and STOS. */
  fastStrings: flag(0),
  automaticThermalControl: flag(3),
  /** Performance monitoring available (read only). */
  emon: flag(7),
  /** Branch trace storage unavailable (read only). */
  btsUnavailable: flag(11),
  /** Precise event-based sampling unavailable (read only). */
  pebsUnavailable: flag(12),
  enhancedSpeedStep: flag(16),
  /** MONITOR and MWAIT. */
  monitor: flag(18),
  /** CPUID's maximum leaf is 2, for old systems. */
  limitCpuidMaxval: flag(22),
  /** xTPR messages off. */
  xtprDisable: flag(23),
  /** Execute-disable bit off: CPUID hides NX. */
  xdDisable: flag(34),
}

const MEMORY_TYPES = { UC: 0, WC: 1, WT: 4, WP: 5, WB: 6 } as const

function memoryType(lsb: number) {
  return choice(lsb, 3, { ...MEMORY_TYPES, 'UC-': 7 })
}

/** IA32_PAT, one memory type per index. Source: SDM vol. 3A §12.12.2, table 12-10. */
export const PAT = {
  PA0: memoryType(0),
  PA1: memoryType(8),
  PA2: memoryType(16),
  PA3: memoryType(24),
  PA4: memoryType(32),
  PA5: memoryType(40),
  PA6: memoryType(48),
  PA7: memoryType(56),
}

/** IA32_PAT after reset: WB WT UC- UC, twice. Source: SDM vol. 3A §12.12.4, table 12-12. */
export const PAT_RESET = 0x0007_0406_0007_0406n

/** IA32_MTRRCAP. Source: SDM vol. 3A §12.11.1, figure 12-5. */
export const MTRR_CAP = {
  /** Number of variable ranges. */
  VCNT: field(0, 8),
  /** Fixed ranges supported. */
  FIX: flag(8),
  /** Write-combining supported. */
  WC: flag(10),
  /** System-management range register supported. */
  SMRR: flag(11),
}

/** IA32_MTRR_DEF_TYPE. Source: SDM vol. 3A §12.11.2.1, figure 12-6. */
export const MTRR_DEF_TYPE = {
  /** Memory type of what no range covers. */
  type: choice(0, 8, MEMORY_TYPES),
  /** Fixed ranges enabled. */
  FE: flag(10),
  /** MTRRs enabled; otherwise all memory is uncacheable. */
  E: flag(11),
}

/** IA32_MTRR_PHYSBASEn. Source: SDM vol. 3A §12.11.2.3, figure 12-7. */
export const MTRR_PHYSBASE = {
  type: choice(0, 8, MEMORY_TYPES),
  base: address(12, 40),
}

/** IA32_MTRR_PHYSMASKn. Source: SDM vol. 3A §12.11.2.3, figure 12-7. */
export const MTRR_PHYSMASK = {
  valid: flag(11),
  /** Mask of the address bits that must equal the base's. */
  mask: address(12, 40),
}

/** IA32_SPEC_CTRL. Source: SDM vol. 4, table 2-2; APM vol. 2 §3.2.9. */
export const SPEC_CTRL = {
  IBRS: flag(0),
  STIBP: flag(1),
  SSBD: flag(2),
  IPRED_DIS_U: flag(3),
  IPRED_DIS_S: flag(4),
  RRSBA_DIS_U: flag(5),
  RRSBA_DIS_S: flag(6),
  PSFD: flag(7),
  DDPD_U: flag(8),
  BHI_DIS_S: flag(10),
}

/** IA32_ARCH_CAPABILITIES. Source: SDM vol. 4, table 2-2. */
export const ARCH_CAPABILITIES = {
  RDCL_NO: flag(0),
  IBRS_ALL: flag(1),
  RSBA: flag(2),
  SKIP_L1DFL_VMENTRY: flag(3),
  SSB_NO: flag(4),
  MDS_NO: flag(5),
  IF_PSCHANGE_MC_NO: flag(6),
  TSX_CTRL: flag(7),
  TAA_NO: flag(8),
  MCU_CONTROL: flag(9),
  MISC_PACKAGE_CTLS: flag(10),
  ENERGY_FILTERING_CTL: flag(11),
  DOITM: flag(12),
  SBDR_SSDP_NO: flag(13),
  FBSDP_NO: flag(14),
  PSDP_NO: flag(15),
  FB_CLEAR: flag(17),
  FB_CLEAR_CTRL: flag(18),
  RRSBA: flag(19),
  BHI_NO: flag(20),
  XAPIC_DISABLE_STATUS: flag(21),
  OVERCLOCKING_STATUS: flag(23),
  PBRSB_NO: flag(24),
  GDS_CTRL: flag(25),
  GDS_NO: flag(26),
  RFDS_NO: flag(27),
  RFDS_CLEAR: flag(28),
  IGN_UMONITOR_SUPPORT: flag(29),
  MON_UMON_MITG_SUPPORT: flag(30),
  ITS_NO: flag(62),
}

/** IA32_DEBUGCTL. Source: SDM vol. 3B §18.4.1. */
export const DEBUGCTL = {
  /** Last branch records on. */
  LBR: flag(0),
  /** Single-step on branches. */
  BTF: flag(1),
  BUS_LOCK_DETECT: flag(2),
  TR: flag(6),
  BTS: flag(7),
  BTINT: flag(8),
  BTS_OFF_OS: flag(9),
  BTS_OFF_USR: flag(10),
  FREEZE_LBRS_ON_PMI: flag(11),
  FREEZE_PERFMON_ON_PMI: flag(12),
  ENABLE_UNCORE_PMI: flag(13),
  FREEZE_WHILE_SMM: flag(14),
  RTM: flag(15),
}

/** IA32_STAR. Source: SDM vol. 3A §5.8.8, figure 5-14; APM vol. 2 §6.1.1. */
export const STAR = {
  /** EIP target of SYSCALL in legacy mode. */
  eip: field(0, 32),
  /** CS of SYSCALL; SS is 8 more. */
  syscallCs: field(32, 16),
  /** Base of SYSRET's selectors: CS is 16 more (64-bit) or equal (32-bit), SS is 8 more. */
  sysretCs: field(48, 16),
}

/** IA32_U_CET and IA32_S_CET without the bitmap address. Source: SDM vol. 1 §17.2 and §17.3. */
export const CET = {
  SH_STK_EN: flag(0),
  WR_SHSTK_EN: flag(1),
  ENDBR_EN: flag(2),
  LEG_IW_EN: flag(3),
  NO_TRACK_EN: flag(4),
  SUPPRESS_DIS: flag(5),
  SUPPRESS: flag(10),
  TRACKER: flag(11),
}

/** IA32_MCG_CAP. Source: SDM vol. 3B §16.3.1.1. */
export const MCG_CAP = {
  /** Number of reporting banks. */
  count: field(0, 8),
  MCG_CTL_P: flag(8),
  MCG_EXT_P: flag(9),
  MCG_CMCI_P: flag(10),
  MCG_TES_P: flag(11),
  MCG_EXT_CNT: field(16, 8),
  MCG_SER_P: flag(24),
  MCG_EMC_P: flag(25),
  MCG_ELOG_P: flag(26),
  MCG_LMCE_P: flag(27),
}

/** VM_CR of AMD. Source: APM vol. 2 §15.30.1. */
export const VM_CR = {
  /** External debuggers disabled. */
  DPD: flag(0),
  /** INIT is turned into #SX. */
  R_INIT: flag(1),
  /** A20 masking off. */
  DIS_A20M: flag(2),
  /** SVMDIS may not be changed. */
  LOCK: flag(3),
  /** EFER.SVME cannot be set. */
  SVMDIS: flag(4),
}

/** SEV_STATUS of AMD, as a guest sees it. Source: APM vol. 2 §15.34.10. */
export const SEV_STATUS = {
  SEV: flag(0),
  SEV_ES: flag(1),
  SEV_SNP: flag(2),
  VTOM: flag(3),
  REFLECT_VC: flag(4),
  RESTRICTED_INJECTION: flag(5),
  ALTERNATE_INJECTION: flag(6),
  DEBUG_SWAP: flag(7),
  PREVENT_HOST_IBS: flag(8),
  BTB_ISOLATION: flag(9),
  VMPL_SSS: flag(10),
  SECURE_TSC: flag(11),
  VMGEXIT_PARAMETER: flag(12),
  IBS_VIRT: flag(14),
  VMSA_REG_PROTECTION: flag(16),
  SMT_PROTECTION: flag(17),
  SECURE_AVIC: flag(18),
}
