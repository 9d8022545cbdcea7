// KVM's kernel modules and their parameters. A module that is built into the kernel appears here
// too, whether or not the processor let it start.

import type { HostFiles } from './host-files.js'

/** One of KVM's kernel modules. */
export interface HostModule {
  /** `kvm`, or the name of an engine: `kvm_intel`, `kvm_amd`, … */
  name: string
  /** Part of the kernel image, not loaded. */
  builtIn: boolean
  /** Parameters with their text as in sysfs; null for one that this user may not read. */
  parameters: Record<string, string | null>
}

/** Finds `kvm` and every `kvm_*` in `/sys/module`. */
export function readHostModules(files: HostFiles): HostModule[] {
  return files
    .list('/sys/module')
    .filter((name) => /^kvm(_|$)/.test(name))
    .map((name) => {
      const folder = `/sys/module/${name}`
      const parameters = files
        .list(`${folder}/parameters`)
        .map((p): [string, string | null] => [p, files.read(`${folder}/parameters/${p}`) ?? null])
      return {
        name,
        builtIn: !files.has(`${folder}/initstate`),
        parameters: Object.fromEntries(parameters),
      }
    })
}

/** A parameter as a switch: `Y`, `N` or a number; null when absent, unreadable or negative (auto). */
export function parameterSwitch(module: HostModule | undefined, name: string): boolean | null {
  const text = module?.parameters[name]
  if (text === 'Y' || text === 'y') return true
  if (text === 'N' || text === 'n') return false
  return text && /^\d+$/.test(text) ? Number(text) !== 0 : null
}
