// The VMX capability MSRs in words, from registers of the shapes that processors have.
import { describe, expect, it } from 'vitest'
import { describeHostMsrs } from '../../src/core/host/host-msrs.js'
import { decodeHostVmx } from '../../src/core/host/host-vmx.js'

const IA32_VMX_BASIC = 0x480
const IA32_VMX_PROCBASED_CTLS2 = 0x48b
const IA32_VMX_EPT_VPID_CAP = 0x48c

// SDM vol. 3D appendix A.10: walks of 4 levels, UC and WB, 2 MiB and 1 GiB pages, INVEPT with both
// types, accessed and dirty bits, INVVPID with all four types.
const EPT_OF_A_SERVER = 0xf01_0633_4141n
const UNRESTRICTED_GUEST = 1n << 7n

describe('decodeHostVmx', () => {
  it('says nothing without the registers', () => {
    expect(decodeHostVmx(new Map())).toBeNull()
    expect(decodeHostVmx(new Map([[IA32_VMX_EPT_VPID_CAP, EPT_OF_A_SERVER]]))).toBeNull()
  })

  it('names what EPT and VPID offer', () => {
    const vmx = decodeHostVmx(
      new Map([
        [IA32_VMX_BASIC, 0x00da_0400_0000_0013n],
        [IA32_VMX_PROCBASED_CTLS2, (UNRESTRICTED_GUEST | 0x22n) << 32n],
        [IA32_VMX_EPT_VPID_CAP, EPT_OF_A_SERVER],
      ]),
    )
    expect(vmx).toMatchObject({
      eptPageWalkLengths: [4],
      eptPageSizes: [4096, 2 ** 21, 2 ** 30],
      eptAccessedDirty: true,
      eptExecuteOnly: true,
      inveptTypes: ['single-context', 'all-contexts'],
      invvpidTypes: [
        'individual-address',
        'single-context',
        'all-contexts',
        'single-context-retaining-globals',
      ],
      unrestrictedGuest: true,
    })
    expect(vmx?.capabilities.secondary?.supported).toEqual([
      'enableEpt',
      'enableVpid',
      'unrestrictedGuest',
    ])
  })

  it('names five levels, and no types of an instruction that is absent', () => {
    const capability = (1n << 6n) | (1n << 7n) | (1n << 25n) | (1n << 26n) | (1n << 41n)
    const vmx = decodeHostVmx(
      new Map([
        [IA32_VMX_BASIC, 0n],
        [IA32_VMX_EPT_VPID_CAP, capability],
      ]),
    )
    expect(vmx).toMatchObject({
      eptPageWalkLengths: [4, 5],
      eptPageSizes: [4096],
      eptAccessedDirty: false,
      inveptTypes: [],
      invvpidTypes: [],
      unrestrictedGuest: false,
    })
  })

  it('without EPT has none of it', () => {
    expect(decodeHostVmx(new Map([[IA32_VMX_BASIC, 0n]]))).toMatchObject({
      eptPageWalkLengths: [],
      eptPageSizes: [],
      inveptTypes: [],
      invvpidTypes: [],
    })
  })
})

it('describes the registers that it knows and shows the others as they are', () => {
  const values = new Map([
    [0x10a, 0x9n],
    [0x1234_5678, 7n],
  ])
  expect(describeHostMsrs([0x10a, 0x1234_5678, 0x8b], values)).toEqual([
    {
      index: 0x10a,
      name: 'IA32_ARCH_CAPABILITIES',
      value: 9n,
      description: 'RDCL_NO SKIP_L1DFL_VMENTRY',
    },
    { index: 0x1234_5678, name: null, value: 7n, description: null },
    { index: 0x8b, name: 'IA32_BIOS_SIGN_ID', value: null, description: null },
  ])
})
