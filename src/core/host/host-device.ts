// Who may open the device file.

import { statSync } from 'node:fs'
import type { HostFiles } from './host-files.js'

/** The device file of KVM. */
export interface HostDevice {
  path: string
  exists: boolean
  /** Permission bits in octal, such as `0660`; null when it cannot be looked at. */
  mode: string | null
  uid: number | null
  gid: number | null
  /** Name of the owner; null when it has none. */
  owner: string | null
  group: string | null
}

/** Looks at a device file; names of users and groups come from the host's /etc. */
export function readHostDevice(path: string, files: HostFiles): HostDevice {
  try {
    const { mode, uid, gid } = statSync(path)
    return {
      path,
      exists: true,
      mode: (mode & 0o7777).toString(8).padStart(4, '0'),
      uid,
      gid,
      owner: nameOf(files, '/etc/passwd', uid),
      group: nameOf(files, '/etc/group', gid),
    }
  } catch (error) {
    const exists = (error as NodeJS.ErrnoException).code !== 'ENOENT'
    return { path, exists, mode: null, uid: null, gid: null, owner: null, group: null }
  }
}

function nameOf(files: HostFiles, path: string, id: number): string | null {
  const lines = (files.read(path) ?? '').split('\n').map((line) => line.split(':'))
  return lines.find((fields) => fields[2] === String(id))?.[0] ?? null
}
