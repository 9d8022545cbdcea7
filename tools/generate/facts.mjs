// What no header says and the generator has to be told: which names belong to other architectures,
// which 64-bit fields are sizes or guest-physical addresses, which field selects a union's member,
// and which requests carry addresses or descriptors.

/**
 * Names of other architectures. Capabilities, exit reasons and device types stay whatever their
 * architecture, so that any number met in the wild has a name.
 * @param {string} name
 */
export function isForeign(name) {
  if (/^KVM_(CAP|EXIT|DEV_TYPE)_/.test(name)) return false
  return /(^|_)(S390|PPC|SPAPR|ARM|ARM64|IA64|MIPS|RISCV|LOONGARCH|RMA|FSL)(_|$)/i.test(name)
}

/** Requests without an architecture in their name that x86 does not implement. */
export const foreignRequests = new Set(['KVM_DIRTY_TLB'])

/** Structs without an architecture in their name that x86 does not use. */
export const foreignStructs = new Set(['kvm_config_tlb', 'kvm_dirty_tlb'])

/** Macros that are not values: host-side plumbing of the headers. */
export const notConstants = new Set(['KVMIO', 'SYNC_REGS_SIZE_BYTES'])

/**
 * 64-bit families whose members mix with 64-bit values in use, so each of them is a bigint even
 * where its value would fit a number.
 * @param {string} name
 */
export function isBigintFamily(name) {
  return (
    /^KVM_REG_(ARCH_MASK|GENERIC|X86|SIZE_(MASK|U\d+))$/.test(name) ||
    (name.startsWith('KVM_PMU_MASKED_ENTRY_') && !name.endsWith('_SHIFT'))
  )
}

/**
 * 64-bit fields whose value is a JavaScript number: guest-physical addresses, sizes, counts. Fields
 * that use all ones for "none" (vmxon_pa, gfn and gpa of the Xen attributes) are not among them,
 * because that value has no exact double; nor are host addresses.
 */
export const numberFields = new Set([
  'kvm_userspace_memory_region.guest_phys_addr',
  'kvm_userspace_memory_region.memory_size',
  'kvm_userspace_memory_region2.guest_phys_addr',
  'kvm_userspace_memory_region2.memory_size',
  'kvm_userspace_memory_region2.guest_memfd_offset',
  'kvm_coalesced_mmio_zone.addr',
  'kvm_coalesced_mmio.phys_addr',
  'kvm_run.io.data_offset',
  'kvm_run.mmio.phys_addr',
  'kvm_run.memory_fault.gpa',
  'kvm_run.memory_fault.size',
  'kvm_run.tdx.get_quote.gpa',
  'kvm_run.tdx.get_quote.size',
  'kvm_exit_snp_req_certs.gpa',
  'kvm_exit_snp_req_certs.npages',
  'kvm_translation.physical_address',
  'kvm_clear_dirty_log.first_page',
  'kvm_dirty_gfn.offset',
  'kvm_memory_attributes.address',
  'kvm_memory_attributes.size',
  'kvm_create_guest_memfd.size',
  'kvm_pre_fault_memory.gpa',
  'kvm_pre_fault_memory.size',
  'kvm_ioeventfd.addr',
  'kvm_vapic_addr.vapic_addr',
  'kvm_ioapic_state.base_address',
  'kvm_reg_list.n',
  'kvm_enc_region.size',
  'kvm_sev_snp_launch_update.gfn_start',
  'kvm_sev_snp_launch_update.len',
  'kvm_tdx_init_mem_region.gpa',
  'kvm_tdx_init_mem_region.nr_pages',
])

/**
 * Flat structs on a path that counts nanoseconds: their encode reads each value once and holds check
 * and write in one function, which V8 compiles to half the time of the two.
 */
export const hotStructs = new Set(['kvm_regs'])

/** Arrays of wider elements that are really bytes with a format of their own. */
export const byteFields = new Set(['kvm_xsave.region', 'kvm_xsave.extra'])

/**
 * Padding by name, which is left out of the interfaces and encoded as zero.
 * @param {string} path Struct and field, joined by a dot.
 */
export function isPadding(path) {
  // The reserved bits of an I/O APIC entry are guest-writable (they can hold an extended
  // destination ID): dropping them would change a saved guest.
  if (path.startsWith('kvm_ioapic_state.redirtbl.fields.')) return false
  return /\.(u8_)?(pad|padding|reserved|reserve|dummy)\d*$/.test(path)
}

/**
 * Unions whose member another field of the enclosing struct selects: path of the union (or of the
 * struct, for an anonymous union) → selecting field and, per constant, the members that apply.
 * @type {Record<string, { by: string, members: Record<string, string[]> }>}
 */
export const discriminators = {
  'kvm_irqchip.chip': {
    by: 'chip_id',
    members: {
      KVM_IRQCHIP_PIC_MASTER: ['pic'],
      KVM_IRQCHIP_PIC_SLAVE: ['pic'],
      KVM_IRQCHIP_IOAPIC: ['ioapic'],
    },
  },
  'kvm_irq_routing_entry.u': {
    by: 'type',
    members: {
      KVM_IRQ_ROUTING_IRQCHIP: ['irqchip'],
      KVM_IRQ_ROUTING_MSI: ['msi'],
      KVM_IRQ_ROUTING_HV_SINT: ['hv_sint'],
      KVM_IRQ_ROUTING_XEN_EVTCHN: ['xen_evtchn'],
    },
  },
  'kvm_nested_state.hdr': {
    by: 'format',
    members: { KVM_STATE_NESTED_FORMAT_VMX: ['vmx'], KVM_STATE_NESTED_FORMAT_SVM: ['svm'] },
  },
  'kvm_xen_hvm_attr.u': {
    by: 'type',
    members: {
      KVM_XEN_ATTR_TYPE_LONG_MODE: ['long_mode'],
      KVM_XEN_ATTR_TYPE_SHARED_INFO: ['shared_info'],
      KVM_XEN_ATTR_TYPE_UPCALL_VECTOR: ['vector'],
      KVM_XEN_ATTR_TYPE_EVTCHN: ['evtchn'],
      KVM_XEN_ATTR_TYPE_XEN_VERSION: ['xen_version'],
      KVM_XEN_ATTR_TYPE_RUNSTATE_UPDATE_FLAG: ['runstate_update_flag'],
      KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA: ['shared_info'],
    },
  },
  'kvm_xen_vcpu_attr.u': {
    by: 'type',
    members: {
      KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO: ['gpa'],
      KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO: ['gpa'],
      KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR: ['gpa'],
      KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_CURRENT: ['runstate'],
      KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_DATA: ['runstate'],
      KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADJUST: ['runstate'],
      KVM_XEN_VCPU_ATTR_TYPE_VCPU_ID: ['vcpu_id'],
      KVM_XEN_VCPU_ATTR_TYPE_TIMER: ['timer'],
      KVM_XEN_VCPU_ATTR_TYPE_UPCALL_VECTOR: ['vector'],
      KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO_HVA: ['hva'],
    },
  },
  'kvm_hyperv_exit.u': {
    by: 'type',
    members: {
      KVM_EXIT_HYPERV_SYNIC: ['synic'],
      KVM_EXIT_HYPERV_HCALL: ['hcall'],
      KVM_EXIT_HYPERV_SYNDBG: ['syndbg'],
    },
  },
  'kvm_xen_exit.u': { by: 'type', members: { KVM_EXIT_XEN_HCALL: ['hcall'] } },
}

/**
 * What the request number and the reference facts do not say in a form a program can use.
 * `bytes`: size of the argument where the encoding gives none or another one.
 * @type {Record<string, { bytes?: number, struct?: string, flags?: string[] }>}
 */
export const requestFacts = {
  KVM_CREATE_VM: { flags: ['RETURNS_FD'] },
  KVM_CREATE_VCPU: { flags: ['RETURNS_FD'] },
  KVM_GET_STATS_FD: { flags: ['RETURNS_FD'] },
  KVM_CREATE_GUEST_MEMFD: { flags: ['RETURNS_FD'] },
  KVM_REINJECT_CONTROL: { bytes: 32, struct: 'kvm_reinject_control', flags: [] },
  // Its argument is kvm_sev_cmd or kvm_tdx_cmd, both 24 bytes.
  KVM_MEMORY_ENCRYPT_OP: { bytes: 24, flags: ['HAS_POINTERS'] },
  // Its address only names a region registered earlier, but it is an address.
  KVM_MEMORY_ENCRYPT_UNREG_REGION: { flags: ['HAS_POINTERS'] },
  // Only the capabilities of `pointerCapabilities` take an address or a descriptor.
  KVM_ENABLE_CAP: { flags: [] },
  // Always 4096 bytes: the kernel refuses it when more would be needed.
  KVM_GET_XSAVE: { flags: [] },
  KVM_SET_XSAVE: { flags: ['SIZE_XSAVE2'] },
  KVM_GET_XSAVE2: { flags: ['SIZE_XSAVE2'] },
  KVM_GET_NESTED_STATE: { flags: ['SIZE_FIELD'] },
  KVM_SET_NESTED_STATE: { flags: ['SIZE_FIELD'] },
}

/** Capabilities whose KVM_ENABLE_CAP args[0] is a host address or a file descriptor. */
export const pointerCapabilities = [
  'KVM_CAP_HYPERV_ENLIGHTENED_VMCS',
  'KVM_CAP_VM_COPY_ENC_CONTEXT_FROM',
  'KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM',
  'KVM_CAP_SGX_ATTRIBUTE',
]
