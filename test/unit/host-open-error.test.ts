// What is said of a device that cannot be opened fits what the host shows.
import { chmodSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { explainOpenError } from '../../src/core/host/open-error.js'
import { cpuinfo, type HostTreeFiles, hostTree, moduleFiles } from '../helpers/host-tree.js'

const AMD = { vendor: 'AuthenticAMD' }

function explain(code: string, files: HostTreeFiles, path = '/dev/kvm'): string {
  using tree = hostTree(files)
  return explainOpenError(code, path, tree.root)
}

describe('a missing device', () => {
  it.each([
    { flags: 'vmx', vendor: 'GenuineIntel', module: 'kvm_intel' },
    { flags: 'svm', vendor: 'AuthenticAMD', module: 'kvm_amd' },
  ])('asks for $module where the processor has $flags', ({ flags, vendor, module }) => {
    const processor = { '/proc/cpuinfo': cpuinfo(flags, { vendor }) }
    expect(explain('ENOENT', processor)).toContain(`sudo modprobe ${module}`)
    const inContainer = explain('ENOENT', { ...processor, '/.dockerenv': '' })
    expect(inContainer).toMatch(/container's host load the module .* --device|--device/)
    const started = explain('ENOENT', { ...processor, ...moduleFiles(module) })
    expect(started).toContain(`${module} is there but did not start`)
    expect(started).toContain('dmesg')
    expect(started).not.toContain('modprobe')
  })

  it('asks for nested virtualization in a virtual machine, for the firmware elsewhere', () => {
    const virtual = explain('ENOENT', { '/proc/cpuinfo': cpuinfo('hypervisor', AMD) })
    expect(virtual).toContain('enable nested virtualization')
    expect(virtual).not.toContain('firmware')
    const real = explain('ENOENT', { '/proc/cpuinfo': cpuinfo('') })
    expect(real).toContain('firmware')
    expect(real).not.toContain('nested')
  })

  it('names an engine that needs no extension of the processor and did not start', () => {
    const files = {
      '/proc/cpuinfo': cpuinfo('hypervisor', AMD),
      ...moduleFiles('kvm', {}, { builtIn: true }),
      ...moduleFiles('kvm_pvm', {}, { builtIn: true }),
    }
    const explained = explain('ENOENT', files)
    expect(explained).toContain('kvm_pvm is there but did not start')
    expect(explained).not.toContain('nested virtualization')
  })

  it('asks for the device file when the kernel serves it', () => {
    const served = { '/proc/cpuinfo': cpuinfo(''), '/sys/class/misc/kvm/dev': '10:232' }
    expect(explain('ENOENT', served)).toContain('sudo mknod /dev/kvm c 10 232')
    const inContainer = explain('ENOENT', { ...served, '/run/.containerenv': '' })
    expect(inContainer).toContain('--device /dev/kvm')
    expect(inContainer).not.toContain('mknod')
  })

  it('and a device without a driver ask for the same', () => {
    const processor = { '/proc/cpuinfo': cpuinfo('vmx') }
    expect(explain('ENXIO', processor)).toMatch(/no driver serves it: .*modprobe kvm_intel/)
    expect(explain('ENODEV', processor)).toMatch(/no driver serves it: .*modprobe kvm_intel/)
  })
})

describe('a forbidden device', () => {
  // The file's own group and owner are this process's, so the advice depends on the mode alone.
  function forbidden(mode: number, files: HostTreeFiles = {}): string {
    using tree = hostTree({ '/device': '', '/etc/group': 'kvm:x:78:\n', ...files })
    const path = join(tree.root, 'device')
    chmodSync(path, mode)
    return explainOpenError('EACCES', path, tree.root)
  }

  it('shows who may', () => {
    const names = {
      '/etc/passwd': `me:x:${process.getuid?.()}:0::/:/bin/sh`,
      '/etc/group': `others:x:1:\nours:x:${process.getgid?.()}:`,
    }
    expect(forbidden(0o660, names)).toContain('(me:ours, mode 0660)')
    expect(forbidden(0o660)).toContain(`(${process.getuid?.()}:${process.getgid?.()}, mode 0660)`)
  })

  it('asks for what lacks', () => {
    expect(forbidden(0o060)).toContain('chmod u+rw')
    expect(forbidden(0o600)).toMatch(/only its owner may; .*chgrp kvm/)
    expect(forbidden(0o660)).toContain('device cgroup')
  })

  it('that cannot even be looked at is told from one that is not there', () => {
    expect(explain('EACCES', {}, '/proc/self/fdinfo/none')).toContain('may not look into')
  })
})

it('tells the other refusals apart', () => {
  expect(explain('EPERM', {})).toContain('device cgroup')
  expect(explain('EPERM', { '/.dockerenv': '' })).toContain('--device /dev/kvm')
  expect(explain('EBUSY', {})).toContain('another hypervisor')
  expect(explain('ENOTTY', {})).toContain('does not answer as KVM does')
  expect(explain('EMFILE', {})).toContain('ulimit -n')
  expect(explain('ELOOP', {})).toBe('/dev/kvm cannot be opened (ELOOP)')
})
