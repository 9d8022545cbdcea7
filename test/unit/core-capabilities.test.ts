// Every capability that the reference says can be enabled has named arguments, on the right file.

import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import {
  type FileCapabilityName,
  vcpuCapabilities,
  vmCapabilities,
} from '../../src/core/capabilities/capability-encoders.js'

const path = new URL('../../reference/kvm-capabilities.json', import.meta.url)
const facts: { name: string; enableCap: string | null }[] = JSON.parse(readFileSync(path, 'utf8'))
const enabledOn = (file: string) =>
  facts.filter(({ enableCap }) => enableCap === file).map(({ name }) => name)

/** They take a file or a VM, whose descriptors native code fills in. */
const withFiles: Record<FileCapabilityName, true> = {
  KVM_CAP_SGX_ATTRIBUTE: true,
  KVM_CAP_VM_COPY_ENC_CONTEXT_FROM: true,
  KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM: true,
}

test('those of a VM', () => {
  const known = [...Object.keys(vmCapabilities), ...Object.keys(withFiles)]
  expect(known.sort()).toEqual(enabledOn('vm').sort())
})

test('those of a vCPU', () => {
  expect(Object.keys(vcpuCapabilities).sort()).toEqual(enabledOn('vcpu').sort())
})
