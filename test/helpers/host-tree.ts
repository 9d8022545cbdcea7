// A directory that looks like a host's /proc, /sys and /etc, for what reads them.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

/** Files by path, such as `{ '/proc/cpuinfo': '…' }`; a path that ends in `/` is a directory. */
export type HostTreeFiles = Readonly<Record<string, string>>

/** Writes a tree; it lasts until the `using` block ends. */
export function hostTree(files: HostTreeFiles): { root: string } & Disposable {
  const root = mkdtempSync(join(tmpdir(), 'host-tree-'))
  for (const [path, text] of Object.entries(files)) {
    const file = join(root, path)
    mkdirSync(path.endsWith('/') ? file : dirname(file), { recursive: true })
    if (!path.endsWith('/')) writeFileSync(file, `${text}\n`)
  }
  return { root, [Symbol.dispose]: () => rmSync(root, { recursive: true }) }
}

/** A module's files in sysfs. */
export function moduleFiles(
  name: string,
  parameters: Readonly<Record<string, string>> = {},
  { builtIn = false } = {},
): HostTreeFiles {
  const folder = `/sys/module/${name}`
  const entries = Object.entries(parameters).map(([key, value]) => [
    `${folder}/parameters/${key}`,
    value,
  ])
  const state = builtIn ? {} : { [`${folder}/initstate`]: 'live' }
  return { [`${folder}/`]: '', ...Object.fromEntries(entries), ...state }
}

/** `/proc/cpuinfo` of some processors with these flags. */
export function cpuinfo(flags: string, { vmxFlags = '', count = 2, vendor = 'GenuineIntel' } = {}) {
  const one = (index: number) =>
    [
      `processor\t: ${index}`,
      `vendor_id\t: ${vendor}`,
      'cpu family\t: 6',
      'model\t\t: 143',
      'model name\t: A Processor: The Second @ 2.00GHz',
      'stepping\t: 8',
      'microcode\t: 0x2b000590',
      `flags\t\t: fpu ${flags} lm`,
      ...(vmxFlags ? [`vmx flags\t: ${vmxFlags}`] : []),
      'bugs\t\t:',
      'address sizes\t: 46 bits physical, 57 bits virtual',
      'power management:',
    ].join('\n')
  return `${Array.from({ length: count }, (_, index) => one(index)).join('\n\n')}\n`
}
