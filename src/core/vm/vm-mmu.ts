// Shadow paging, and the pages that kvm_intel borrows from the guest.

import {
  KVM_CAP_MMU_SHADOW_CACHE_CONTROL,
  KVM_CAP_SET_BOOT_CPU_ID,
  KVM_CAP_SET_IDENTITY_MAP_ADDR,
  KVM_CAP_SET_TSS_ADDR,
  KVM_GET_NR_MMU_PAGES,
  KVM_SET_BOOT_CPU_ID,
  KVM_SET_IDENTITY_MAP_ADDR,
  KVM_SET_NR_MMU_PAGES,
  KVM_SET_TSS_ADDR,
} from '../../uapi/index.js'
import { integer, uint32 } from '../validate.js'
import { VmDirty } from './vm-dirty.js'

/** Paging of a VM, and what is fixed before its first vCPU. */
export abstract class VmMmu extends VmDirty {
  /**
   * Limits the pages that KVM uses for shadow page tables, at least 64. Without effect where the CPU
   * translates guest addresses itself.
   *
   * @ioctl KVM_SET_NR_MMU_PAGES (linux/kvm.h)
   * @capability KVM_CAP_MMU_SHADOW_CACHE_CONTROL
   */
  setNrMmuPages(pages: number): void {
    uint32(pages, 'pages')
    this.capabilities.require(KVM_CAP_MMU_SHADOW_CACHE_CONTROL)
    this.request(KVM_SET_NR_MMU_PAGES, 'KVM_SET_NR_MMU_PAGES', pages, {
      reasons: { EINVAL: 'at least 64 pages are needed' },
    })
  }

  /**
   * That limit.
   *
   * @deprecated Linux 6.4 removed it; nothing replaces it. Newer kernels answer `ENOTTY`.
   * @ioctl KVM_GET_NR_MMU_PAGES (linux/kvm.h)
   * @capability KVM_CAP_MMU_SHADOW_CACHE_CONTROL
   */
  getNrMmuPages(): number {
    this.capabilities.require(KVM_CAP_MMU_SHADOW_CACHE_CONTROL)
    return this.request(KVM_GET_NR_MMU_PAGES, 'KVM_GET_NR_MMU_PAGES', undefined, {
      reasons: { ENOTTY: 'Linux 6.4 and later do not have it' },
    })
  }

  /**
   * Where kvm_intel puts the three pages it needs for real mode without unrestricted guest; below
   * 4 GiB, where no slot is. Other hosts ignore it.
   *
   * @ioctl KVM_SET_TSS_ADDR (KVM API 4.36)
   * @capability KVM_CAP_SET_TSS_ADDR
   */
  setTssAddr(gpa: number): void {
    uint32(gpa, 'gpa')
    this.capabilities.require(KVM_CAP_SET_TSS_ADDR)
    this.request(KVM_SET_TSS_ADDR, 'KVM_SET_TSS_ADDR', gpa, { gpa })
  }

  /**
   * Where kvm_intel puts the one-page identity map it needs likewise; 0 is the kernel's own choice.
   * Before the first vCPU.
   *
   * @ioctl KVM_SET_IDENTITY_MAP_ADDR (KVM API 4.40)
   * @capability KVM_CAP_SET_IDENTITY_MAP_ADDR
   */
  setIdentityMapAddr(gpa: number): void {
    integer(gpa, 'gpa')
    this.capabilities.require(KVM_CAP_SET_IDENTITY_MAP_ADDR)
    this.native.view.u64[0] = BigInt(gpa)
    this.request(KVM_SET_IDENTITY_MAP_ADDR, 'KVM_SET_IDENTITY_MAP_ADDR', undefined, {
      gpa,
      reasons: { EINVAL: 'the VM has vCPUs already' },
    })
  }

  /**
   * Which vCPU is the bootstrap processor; 0 unless said. Before the first vCPU.
   *
   * @ioctl KVM_SET_BOOT_CPU_ID (KVM API 4.41)
   * @capability KVM_CAP_SET_BOOT_CPU_ID
   */
  setBootCpuId(vcpuId: number): void {
    uint32(vcpuId, 'vcpuId')
    this.capabilities.require(KVM_CAP_SET_BOOT_CPU_ID)
    this.request(KVM_SET_BOOT_CPU_ID, 'KVM_SET_BOOT_CPU_ID', vcpuId, {
      vcpuId,
      reasons: { EBUSY: 'the VM has vCPUs already' },
    })
  }
}
