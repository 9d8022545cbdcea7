// What this process holds of the kernel, from /proc.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/** The files under /dev/kvm and its VMs and vCPUs that this process has open, by name, sorted. */
export function openKvmFiles(): string[] {
  const names: string[] = []
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      const name = readlinkSync(`/proc/self/fd/${fd}`)
      if (/kvm/.test(name)) names.push(name)
    } catch {
      // The descriptor of the listing itself is gone by now.
    }
  }
  return names.sort()
}

/** How many mappings of guest RAM and of vCPUs this process has. */
export function kvmMappings(): number {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => /memfd:node-kvm|anon_inode:kvm/.test(line)).length
}

/** How many threads this process has. */
export const threadCount = (): number => readdirSync('/proc/self/task').length
