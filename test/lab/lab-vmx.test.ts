// The lab's Bochs machine, seen from the host: the same contract as the QEMU one, with Intel VMX and EPT;
// what node-kvm says of these there, and the tests of slots, dirty pages and page sizes. One run, because
// the machine alone takes the better part of a minute.
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { bundleTests } from '../../lab/bundle-tests.mjs'
import type { AvailableHostReport } from '../../src/index.js'
import type { Counts } from '../../tools/count-reporter.mjs'

const root = join(import.meta.dirname, '..', '..')
const TESTS = [
  'exits-complete-io',
  'host-report',
  'memory-pages',
  'memory-slots',
  'memory-tracking',
  'vm-dirty',
].map((name) => `test/kvm/${name}.test.ts`)
const BUNDLE = 'build/lab/vmx-tests.mjs'

/** Capability registers as the processor itself has them, not KVM. SDM vol. 3D appendix A.3.3, A.10. */
const PROCBASED_CTLS2 = 0x48b
const EPT_VPID_CAP = 0x48c

const SCRIPT = `
  const { readFileSync, existsSync, openSync, readSync, writeFileSync } = require('node:fs')
  const { spawnSync } = require('node:child_process')
  const parameter = (name) => readFileSync('/sys/module/kvm_intel/parameters/' + name, 'utf8').trim()
  const msrs = openSync('/dev/cpu/0/msr', 'r')
  const msr = (index) => {
    const value = Buffer.alloc(8)
    readSync(msrs, value, 0, 8, index)
    return String(value.readBigUInt64LE())
  }
  writeFileSync('/lab/out/facts.json', JSON.stringify({
    directory: process.cwd(), lab: process.env.LAB, arg: process.argv[1],
    given: readFileSync('/lab/out/given', 'utf8'),
    parameters: ['ept', 'unrestricted_guest', 'nested'].map(parameter),
    msrs: [${PROCBASED_CTLS2}, ${EPT_VPID_CAP}].map(msr),
    devices: ['/dev/kvm', '/dev/net/tun', '/dev/shm', 'package.json'].filter(existsSync),
  }))
  const run = (name, args, env = {}) => {
    const { stdout } = spawnSync(process.execPath, args, { env: { ...process.env, ...env } })
    writeFileSync('/lab/out/' + name, stdout)
  }
  run('info.json', ['lib/cli/main.cjs', 'info', '--json'])
  run('tests.txt', ['${BUNDLE}'], { NODE_KVM_COUNTS: '/lab/out/counts.json' })
  console.log('to stdout')
  console.error('to stderr')
  process.exit(3)`

const out = mkdtempSync(join(tmpdir(), 'lab-vmx-test-'))
const text = (name: string) => readFileSync(join(out, name), 'utf8')
let outcome: { status: unknown; stdout: string; stderr: string }
beforeAll(async () => {
  await bundleTests(TESTS, join(root, BUNDLE))
  writeFileSync(join(out, 'given'), 'from the host')
  const lab = ['lab/run.mjs', '--machine', 'vmx', '--modules', 'msr', '--timeout', '850']
  const command = ['--out', out, '--', 'node', '-e', SCRIPT, "a 'b"]
  // A file of the host that the machine does not have would make node print a warning.
  const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env
  outcome = await new Promise((resolve) => {
    execFile(process.execPath, [...lab, ...command], { cwd: root, env }, (error, stdout, stderr) =>
      resolve({ status: error?.code ?? 0, stdout, stderr }),
    )
  })
}, 900_000)
afterAll(() => rmSync(out, { recursive: true }))

it('runs node with kvm_intel and EPT, and gives status, output and files', () => {
  expect(outcome).toMatchObject({ status: 3, stdout: 'to stdout\n' })
  expect(outcome.stderr).toMatch(/to stderr\n$/)
  expect(readdirSync(out).sort()).toEqual(
    ['counts.json', 'facts.json', 'given', 'info.json', 'tests.txt'].sort(),
  )
  const { msrs: _, ...facts } = JSON.parse(text('facts.json'))
  expect(facts).toEqual({
    directory: root,
    lab: 'vmx',
    arg: "a 'b",
    given: 'from the host',
    parameters: ['Y', 'Y', 'Y'],
    devices: ['/dev/kvm', '/dev/net/tun', '/dev/shm', 'package.json'],
  })
})

it('has the EPT that is reported, by its own registers', () => {
  const report = JSON.parse(text('info.json')) as AvailableHostReport
  const msrs: string[] = JSON.parse(text('facts.json')).msrs
  const [controls, ept] = msrs.map(BigInt) as [bigint, bigint]
  const may = (bit: number) => ((controls >> BigInt(32 + bit)) & 1n) === 1n
  const has = (bit: number) => ((ept >> BigInt(bit)) & 1n) === 1n
  expect(report).toMatchObject({
    available: true,
    engine: { kind: 'hardware', technology: 'VMX', module: 'kvm_intel' },
    features: {
      nestedPaging: { name: 'EPT', enabled: may(1) },
      tlbTags: { name: 'VPID', enabled: may(5) },
      unrestrictedGuest: { enabled: may(7) },
      pageModificationLog: { enabled: may(17) },
      nestedAccessedDirty: { enabled: has(21) },
    },
    vmx: {
      eptPageWalkLengths: [...(has(6) ? [4] : []), ...(has(7) ? [5] : [])],
      eptPageSizes: [4096, ...(has(16) ? [2 ** 21] : []), ...(has(17) ? [2 ** 30] : [])],
      eptAccessedDirty: has(21),
      eptExecuteOnly: has(0),
      unrestrictedGuest: may(7),
    },
  })
  // What Bochs emulates with this processor.
  expect([1, 5, 7].every(may) && [0, 6, 16, 17, 21].every(has)).toBe(true)
  expect(report.cpu.virtualizationFlags).toEqual(
    expect.arrayContaining(['ept', 'vpid', 'ept_ad', 'ept_1gb', 'unrestricted_guest']),
  )
})

it('passes the tests of slots, dirty pages and page sizes', () => {
  const { passed, failed, files } = JSON.parse(text('counts.json')) as Counts
  expect({ failed, files }, text('tests.txt')).toEqual({ failed: 0, files: TESTS })
  expect(passed).toBeGreaterThan(100)
})
