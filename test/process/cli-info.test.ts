// `node-kvm info` and the dispatcher, as a user starts them.
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { type HostReport, hostReport, hostReportToJson } from '../../src/index.js'
import { withoutApicId } from '../helpers/apic-id.js'

const root = join(import.meta.dirname, '..', '..')
const MAIN = join(root, 'lib', 'cli', 'main.cjs')
const NOBODY = 65534

function nodeKvm(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    encoding: 'utf8',
    maxBuffer: 1 << 24,
  })
  return { status, stdout, stderr }
}

/** JSON.parse's reviver: in CPUID's leaves the APIC ids become 0. */
function moved(_key: string, value: unknown): unknown {
  const entry = value as { leaf: number; eax: number; ebx: number; edx: number } | null
  return entry?.leaf !== undefined && entry.eax !== undefined
    ? withoutApicId(entry.leaf, entry)
    : value
}

/** What changes from one moment or processor to the next is no part of the comparison. */
function stable(report: HostReport): unknown {
  const { memory, ...rest } = JSON.parse(hostReportToJson(report), moved) as HostReport
  return { ...rest, ramBytes: memory.total, pools: memory.hugePagePools.map((p) => p.pageSize) }
}

describe('node-kvm info', () => {
  it('--json prints the report of the API', () => {
    const { status, stdout, stderr } = nodeKvm('info', '--json')
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stable(JSON.parse(stdout) as HostReport)).toEqual(stable(hostReport()))
  })

  it('prints the same facts as text, in at most 96 columns', () => {
    const report = hostReport()
    if (!report.available) throw new Error(report.reason)
    const { status, stdout } = nodeKvm('info')
    expect(status).toBe(0)
    const words = new Set(stdout.split(/\s+/))
    const lines = stdout.split('\n')
    expect(lines.filter((line) => line.length > 96)).toEqual([])
    for (const name of Object.keys(report.capabilities)) {
      expect(words.has(name) || words.has(name.replace('KVM_CAP_', ''))).toBe(true)
    }
    for (const feature of report.cpuid.supported.features) expect(words).toContain(feature)
    expect(stdout).toMatch(new RegExp(`^ {2}engine +${report.engine.kind}`, 'm'))
    expect(stdout).toMatch(new RegExp(`^ {2}vCPUs +${report.limits.maxVcpus} `, 'm'))
    expect(stdout).toMatch(new RegExp(`^ {2}memory slots +${report.limits.memslots} `, 'm'))
  })

  it('without a device says why, what to do, and ends with 1', () => {
    const text = nodeKvm('info', '--device', '/dev/no-such-device')
    expect(text.status).toBe(1)
    expect(text.stdout).toMatch(/^KVM cannot be used\n {2}reason {2}\/dev\/no-such-device does not/)
    const json = nodeKvm('info', '--device', '/dev/no-such-device', '--json')
    expect(json.status).toBe(1)
    expect(JSON.parse(json.stdout)).toMatchObject({
      available: false,
      code: 'ENOENT',
      reason: expect.stringContaining('does not exist'),
    })
  })

  it('can leave out the guest', () => {
    const { stdout } = nodeKvm('info', '--json', '--no-guest')
    expect(JSON.parse(stdout)).toMatchObject({ available: true, guestExecution: null })
  })

  it('ends well when its reader has seen enough', async () => {
    const child = spawn(process.execPath, [MAIN, 'info', '--json'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let complaints = ''
    child.stderr.on('data', (chunk) => {
      complaints += chunk
    })
    child.stdout.destroy()
    const code = await new Promise((resolve) => child.on('close', resolve))
    expect({ code, complaints }).toEqual({ code: 0, complaints: '' })
  })
})

describe.skipIf(process.getuid?.() !== 0)('a user who may not open the device', () => {
  // The package may lie where only root can read, so the child becomes nobody after loading it.
  const script = (path: string) => `
    const { hostReport, Kvm } = await import(${JSON.stringify(join(root, 'lib', 'index.js'))})
    Kvm.isAvailable()
    process.setgroups([]); process.setgid(${NOBODY}); process.setuid(${NOBODY})
    const report = hostReport({ path: ${JSON.stringify(path)} })
    let thrown
    try { Kvm.open(${JSON.stringify(path)}) } catch (error) { thrown = error }
    console.log(JSON.stringify({
      available: report.available, reason: report.reason, code: report.code,
      thrown: thrown.code, message: thrown.message, openable: Kvm.isAvailable(${JSON.stringify(path)}),
    }))`

  function asNobody(path: string) {
    const args = ['--input-type=module', '-e', script(path)]
    const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
    expect(stderr).toBe('')
    return JSON.parse(stdout) as Record<string, unknown>
  }

  it.each([
    { folderMode: 0o755, mode: 0o660, says: 'sudo usermod -aG root "$USER"' },
    { folderMode: 0o755, mode: 0o600, says: 'only its owner may' },
    { folderMode: 0o700, mode: 0o660, says: 'may not look into the directory' },
  ])('learns what to do: $says', ({ folderMode, mode, says }) => {
    const folder = mkdtempSync(join(tmpdir(), 'device-'))
    const device = join(folder, 'kvm')
    try {
      writeFileSync(device, '')
      chmodSync(device, mode)
      chmodSync(folder, folderMode)
      const found = asNobody(device)
      expect(found).toMatchObject({ available: false, openable: false, code: 'EACCES' })
      expect(found.thrown).toBe('ERR_KVM_UNAVAILABLE')
      expect(found.reason).toContain(`this user (uid ${NOBODY}) may not`)
      expect(found.reason).toContain(says)
      expect(found.message).toContain(found.reason)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})

describe('the dispatcher', () => {
  it('prints the version of the package', () => {
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
    expect(nodeKvm('--version')).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' })
  })

  it.each([
    { args: ['help'], text: /^Usage: node-kvm COMMAND/ },
    { args: ['--help'], text: /^Usage: node-kvm COMMAND/ },
    { args: ['help', 'info'], text: /^Usage: node-kvm info/ },
    { args: ['info', '--help'], text: /^Usage: node-kvm info/ },
    { args: ['help', 'run'], text: /^Usage: node-kvm run/ },
  ])('answers $args', ({ args, text }) => {
    expect(nodeKvm(...args)).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(text),
      stderr: '',
    })
  })

  it.each([
    { args: [], complaint: 'no command' },
    { args: ['nonsense'], complaint: "unknown command 'nonsense'" },
    { args: ['toString'], complaint: "unknown command 'toString'" },
    { args: ['help', '__proto__'], complaint: "unknown command '__proto__'" },
    { args: ['a\x1b[31mb'], complaint: "unknown command 'ab'" },
    { args: ['info', '--nonsense'], complaint: "Unknown option '--nonsense'" },
    { args: ['info', 'extra'], complaint: "Unexpected argument 'extra'" },
    { args: ['info', '--device'], complaint: "'--device <value>' argument missing" },
  ])('refuses $args with status 2 and the usage', ({ args, complaint }) => {
    const { status, stdout, stderr } = nodeKvm(...args)
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toContain(complaint)
    expect(stderr).toContain('Usage: node-kvm')
  })
})
