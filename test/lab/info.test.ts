// `node-kvm info` tells the truth of a machine with hardware semantics: compared with what the kernel
// there says, read by other programs in the same run.
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { AvailableHostReport } from '../../src/index.js'

const root = join(import.meta.dirname, '..', '..')
const MACHINE_TIMEOUT_MS = 240_000

const SCRIPT = `
  node lib/cli/main.cjs info --json >/lab/out/info.json || exit 11
  node lib/cli/main.cjs info >/lab/out/info.txt || exit 12
  cat /proc/cpuinfo >/lab/out/cpuinfo
  uname -r >/lab/out/release
  dmesg >/lab/out/dmesg
  grep -r '' /sys/module/kvm/parameters /sys/module/kvm_amd/parameters >/lab/out/parameters
  rm /dev/kvm
  node lib/cli/main.cjs info --json >/lab/out/removed.json
  echo $? >/lab/out/status`

describe('node-kvm info in the lab', () => {
  const out = mkdtempSync(join(tmpdir(), 'info-lab-'))
  const output = (name: string) => readFileSync(join(out, name), 'utf8').trim()
  let report: AvailableHostReport
  let parameters: Record<string, string>

  beforeAll(async () => {
    const args = ['lab/run.mjs', '--out', out, 'sh', '-c', SCRIPT]
    await new Promise<void>((resolve, reject) => {
      execFile(process.execPath, args, { cwd: root }, (error) =>
        error ? reject(error) : resolve(),
      )
    })
    report = JSON.parse(output('info.json')) as AvailableHostReport
    const lines = output('parameters').split('\n')
    parameters = Object.fromEntries(
      lines.map((line) => /parameters\/(.+?):(.*)$/.exec(line)!.slice(1)),
    )
  }, MACHINE_TIMEOUT_MS)
  afterAll(() => rmSync(out, { recursive: true }))

  /** null where this kernel's module has no such parameter. */
  const isOn = (parameter: string) => {
    const text = parameters[parameter]
    return text === undefined ? null : /^(Y|1)$/.test(text)
  }

  // What it was loaded with is what guests get for good, see settle_clock in lab/level1/svm.sh.
  it('runs where KVM was loaded with the final rate of the TSC', () => {
    const [before, after = ''] = output('dmesg').split('Refined TSC clocksource calibration')
    expect(before).not.toContain('SVM: ')
    expect(after).toContain('SVM: ')
    expect(after).not.toContain('TSC rate below hardware speed')
  })

  it('names the engine of the processor', () => {
    expect(report).toMatchObject({
      available: true,
      kernel: { release: output('release') },
      engine: { kind: 'hardware', technology: 'SVM', module: 'kvm_amd' },
      cpu: { virtualization: 'SVM', isVirtualMachine: true },
      vm: { creatable: true },
    })
    const flags = /^flags\s*: (.*)$/m.exec(output('cpuinfo'))![1]!.split(' ')
    expect(flags).toContain('svm')
    for (const flag of report.cpu.virtualizationFlags) expect(flags).toContain(flag)
    expect(report.cpu.virtualizationFlags).toContain('npt')
  })

  it('gives the features as the module has them', () => {
    const { features } = report
    expect(isOn('npt')).toBe(true)
    expect(features).toMatchObject({
      nestedPaging: { name: 'NPT', enabled: isOn('npt') },
      nested: { enabled: isOn('nested') },
      apicVirtualization: { name: 'AVIC', enabled: isOn('avic') },
      tdpMmu: { enabled: isOn('tdp_mmu') },
      virtualNmi: { enabled: isOn('vnmi') },
      confidentialGuests: { enabled: isOn('sev') || isOn('sev_es') },
    })
    expect(report.limits.nestedStateBytes > 0).toBe(isOn('nested'))
    const all = report.modules.flatMap((module) => Object.entries(module.parameters))
    expect(Object.fromEntries(all)).toEqual(parameters)
  })

  it('finds that the processor executes every mode', () => {
    expect(report.guestExecution).toEqual({
      realMode: 'processor',
      protectedMode: 'processor',
      longModeKernel: 'processor',
      longModeUser: 'processor',
    })
    expect(output('info.txt')).toMatch(/engine +hardware, SVM \(kvm_amd\)/)
  })

  it('offers guests SVM in CPUID exactly when nesting is on', () => {
    expect(report.cpuid.supported.features.includes('svm')).toBe(isOn('nested'))
  })

  it('says that a removed device file is all that lacks', () => {
    expect(output('status')).toBe('1')
    expect(JSON.parse(output('removed.json'))).toMatchObject({
      available: false,
      code: 'ENOENT',
      device: { exists: false },
      reason: expect.stringContaining('the kernel has KVM, but this file system lacks the device'),
    })
  })
})
