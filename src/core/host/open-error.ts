// Why a device file of KVM cannot be opened, and what to do about it, from what can be seen of the
// host. Wrong advice costs an afternoon: each sentence names the fact that it rests on.

import { readHostCpu } from './host-cpu.js'
import { type HostDevice, readHostDevice } from './host-device.js'
import { type HostFiles, hostFiles } from './host-files.js'
import { readHostModules } from './host-modules.js'

const PASS_THE_DEVICE = 'pass the device into the container (`--device /dev/kvm`)'

/**
 * Explains a failed open in one or two sentences.
 *
 * @param code the system error's code, such as `EACCES`
 * @param path the device file
 * @param root where the host's file system begins; only tests have another one than `/`
 */
export function explainOpenError(code: string, path: string, root = '/'): string {
  const files = hostFiles(root)
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return `${path} does not exist: ${explainMissing(files)}`
    case 'EACCES':
      return explainForbidden(readHostDevice(path, files), files)
    case 'EPERM':
      return (
        `the kernel forbids this process to open ${path}, whatever its permission bits: ` +
        `${isContainer(files) ? PASS_THE_DEVICE : 'look for a device cgroup or a security module'}`
      )
    case 'ENODEV':
    case 'ENXIO':
      return `${path} exists but no driver serves it: ${explainMissing(files)}`
    case 'ENOTTY':
    case 'EINVAL':
      return `${path} can be opened but does not answer as KVM does`
    case 'EBUSY':
      return 'another hypervisor holds the virtualization extensions of the CPU; stop it first'
    case 'EMFILE':
    case 'ENFILE':
      return 'no file descriptor is left; close some, or raise the limit (`ulimit -n`)'
    default:
      return `${path} cannot be opened (${code})`
  }
}

function explainMissing(files: HostFiles): string {
  const modules = readHostModules(files).map(({ name }) => name)
  // Not every engine needs an extension of the processor: one in software (kvm_pvm) shows as a module.
  const engine = engineFor(files) ?? modules.find((name) => name !== 'kvm')
  if (files.has('/sys/class/misc/kvm')) {
    const remedy = isContainer(files)
      ? PASS_THE_DEVICE
      : 'create it (`sudo mknod /dev/kvm c 10 232`)'
    return `the kernel has KVM, but this file system lacks the device file: ${remedy}`
  }
  if (engine === undefined) return explainNoExtension(files)
  if (!modules.includes(engine)) {
    return isContainer(files)
      ? `on the container's host load the module (\`sudo modprobe ${engine}\`), then ${PASS_THE_DEVICE}`
      : `load the module (\`sudo modprobe ${engine}\`)`
  }
  return (
    `${engine} is there but did not start; see \`dmesg\` (virtualization may be disabled in the ` +
    'firmware, in use by another hypervisor, or not possible inside this one)'
  )
}

function engineFor(files: HostFiles): string | undefined {
  const { virtualization } = readHostCpu(files)
  if (virtualization === null) return undefined
  return virtualization === 'VMX' ? 'kvm_intel' : 'kvm_amd'
}

function explainNoExtension(files: HostFiles): string {
  const { isVirtualMachine } = readHostCpu(files)
  return isVirtualMachine
    ? 'this machine is virtual and its CPU shows neither VMX nor SVM; enable nested virtualization ' +
        'on its host (module parameter `nested=1`, CPU model `host`)'
    : 'the CPU shows neither VMX nor SVM; enable virtualization in the firmware (BIOS) setup, if ' +
        'the CPU has it'
}

function explainForbidden(device: HostDevice, files: HostFiles): string {
  const { path } = device
  const uid = process.getuid?.()
  if (device.mode === null || device.gid === null) {
    return `this user (uid ${uid}) may not look into the directory of ${path}`
  }
  const owner = `${device.owner ?? device.uid}:${device.group ?? device.gid}, mode ${device.mode}`
  const who = `this user (uid ${uid}) may not open ${path} (${owner})`
  return `${who}: ${permissionRemedy(device, files)}`
}

function permissionRemedy(device: HostDevice, files: HostFiles): string {
  const bits = Number.parseInt(device.mode ?? '0', 8)
  const group = device.group ?? String(device.gid)
  if (device.uid === process.getuid?.() && (bits & 0o600) !== 0o600) {
    return `give its owner access (\`chmod u+rw ${device.path}\`)`
  }
  if ((bits & 0o060) !== 0o060) {
    return (
      'only its owner may; give it to the group kvm ' +
      `(\`sudo chgrp kvm ${device.path} && sudo chmod 660 ${device.path}\`, or a udev rule), and ` +
      'add the user to that group'
    )
  }
  if (process.getgroups?.().includes(device.gid ?? -1) || (bits & 0o006) === 0o006) {
    return 'the permission bits allow it, so look for a device cgroup, a `nodev` mount or a security module'
  }
  const inside = isContainer(files)
    ? `; in a container give the process that group (\`--group-add ${device.gid}\`)`
    : ''
  return `add it to the group (\`sudo usermod -aG ${group} "$USER"\`, then log in anew)${inside}`
}

function isContainer(files: HostFiles): boolean {
  return (
    files.has('/.dockerenv') ||
    files.has('/run/.containerenv') ||
    files.has('/run/secrets/kubernetes.io') ||
    files.has('/run/systemd/container')
  )
}
