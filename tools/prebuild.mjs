// Builds the binary that the package ships, so that it runs on glibc 2.28 and later (what Node 20
// itself needs): prebuildify does the building, this only makes the linker take old symbol versions.

import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..')
const folder = mkdtempSync(join(tmpdir(), 'old-glibc-'))
const OLDEST = [2, 28]

// glibc 2.34 moved libpthread into libc under new versions, and keeps the old ones for old binaries.
const PTHREAD = {
  'GLIBC_2.2.5': [
    'create',
    'join',
    'detach',
    'once',
    'sigmask',
    '_key_create',
    '_getspecific',
    '_setspecific',
    '_key_delete',
    'getcpuclockid',
    'attr_setstacksize',
  ],
  'GLIBC_2.12': ['setname_np'],
}

function stubLibrary() {
  const names = Object.entries(PTHREAD).map(([version, functions]) => ({
    version,
    symbols: functions.map((name) => (name.startsWith('_') ? `pthread${name}` : `pthread_${name}`)),
  }))
  names[0].symbols.push('__pthread_key_create')
  const source = names.flatMap(({ symbols }) => symbols.map((name) => `void ${name}(void) {}\n`))
  const map = names.map(
    ({ version, symbols }) => `${version} { global: ${symbols.join('; ')}; };\n`,
  )
  writeFileSync(join(folder, 'pthread.c'), source.join(''))
  writeFileSync(join(folder, 'pthread.map'), map.join(''))
  const library = join(folder, 'libpthread.so')
  execFileSync('cc', [
    '-shared',
    '-nostdlib',
    '-fno-builtin',
    '-w',
    join(folder, 'pthread.c'),
    '-o',
    library,
    '-Wl,-soname,libpthread.so.0',
    `-Wl,--version-script,${join(folder, 'pthread.map')}`,
  ])
  return library
}

/** @param {string} binary @returns {string[]} the glibc symbols newer than OLDEST */
function tooNew(binary) {
  const table = execFileSync('objdump', ['-T', binary], { encoding: 'utf8' })
  return [...table.matchAll(/\(GLIBC_(\d+)\.(\d+)[\d.]*\)\s+(\S+)/g)]
    .filter(
      ([, major, minor]) => Number(major) * 1000 + Number(minor) > OLDEST[0] * 1000 + OLDEST[1],
    )
    .map(([, major, minor, name]) => `${name} (GLIBC_${major}.${minor})`)
}

// Built in a copy: a rebuild would empty build/ under whoever is using the addon there.
function sourceCopy() {
  for (const name of ['native', 'binding.gyp', 'package.json']) {
    cpSync(join(root, name), join(folder, name), { recursive: true })
  }
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
  return folder
}

const library = stubLibrary()
const prebuilds = join(root, 'prebuilds')
rmSync(prebuilds, { recursive: true, force: true })
execFileSync('npx', ['prebuildify', '--napi', '--strip', '--out', root], {
  cwd: sourceCopy(),
  stdio: ['ignore', 'ignore', 'inherit'],
  env: {
    ...process.env,
    CXXFLAGS: '-DNODE_KVM_OLD_GLIBC',
    LDFLAGS: `-Wl,--no-as-needed ${library}`,
  },
})
rmSync(folder, { recursive: true })
for (const name of readdirSync(join(prebuilds, 'linux-x64'))) {
  const bad = tooNew(join(prebuilds, 'linux-x64', name))
  if (bad.length > 0)
    throw new Error(`${name} needs a newer glibc than ${OLDEST.join('.')}: ${bad.join(', ')}`)
  console.log(`prebuilds/linux-x64/${name}: for glibc ${OLDEST.join('.')} and later`)
}
