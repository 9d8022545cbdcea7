// `node-kvm run` as a terminal sees it, with a kernel small enough for any KVM.

import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { crashKernel, echoKernel } from '../helpers/small-kernels.js'

const command = join(import.meta.dirname, '..', '..', 'lib', 'cli', 'main.cjs')
const folder = mkdtempSync(join(tmpdir(), 'node-kvm-run-'))
const kernel = join(folder, 'echo.elf')
const crasher = join(folder, 'crash.elf')

beforeAll(() => {
  writeFileSync(kernel, echoKernel)
  writeFileSync(crasher, crashKernel)
})
afterAll(() => rmSync(folder, { recursive: true }))

interface Ended {
  status: number | null
  output: string
}

/** Runs it under a pseudo-terminal; types `ab` at the prompt, and `keys` when that has come back. */
function onTerminal(keys: string): Promise<Ended> {
  const line = `${process.execPath} ${command} run --kernel ${kernel}`
  const child = spawn('script', ['-qefc', line, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let output = ''
  child.stdout.on('data', (chunk) => {
    output += chunk
    if (output.endsWith('>')) child.stdin.write('ab')
    else if (output.endsWith('>ab')) child.stdin.write(keys)
  })
  return new Promise((resolve) => child.on('close', (status) => resolve({ status, output })))
}

test('piped input reaches the guest, its output comes back, power-off is status 0', () => {
  const args = [command, 'run', '--kernel', kernel, '--memory', '16M']
  expect(execFileSync(process.execPath, args, { input: 'hello q', encoding: 'utf8' })).toBe(
    '>hello q',
  )
})

test('a terminal: keys go to the guest as they are typed', async () => {
  expect(await onTerminal('q')).toEqual({ status: 0, output: '>abq' })
})

test('a terminal: Ctrl-A X leaves', async () => {
  expect(await onTerminal('\x01x')).toEqual({ status: 0, output: '>ab' })
})

test('a terminal: Ctrl-A P presses the power button', async () => {
  expect(await onTerminal('\x01p')).toEqual({ status: 0, output: '>ab!' })
})

test('a terminal: Ctrl-A Ctrl-A types one', async () => {
  expect(await onTerminal('\x01\x01q')).toEqual({ status: 0, output: '>ab\x01q' })
})

test('a configuration file makes the machine, options count before it', () => {
  const config = join(folder, 'machine.json')
  writeFileSync(config, '{ "cpus": 2, "memory": "16M", "boot": { "kernel": "echo.elf" } }')
  const args = [command, 'run', '--config', config, '--cpus', '1']
  expect(execFileSync(process.execPath, args, { input: 'q', encoding: 'utf8' })).toBe('>q')
  writeFileSync(config, '{\n  "cpus": 2,\n  "memroy": "16M"\n}')
  const result = run(['--config', config])
  expect(result.status).toBe(1)
  expect(result.output).toMatch(
    /machine\.json:3: "memroy" is no key of it; there are cpus, threads/,
  )
})

test('--dry-run tells what would be where', () => {
  const { status, output } = run([
    '--kernel',
    kernel,
    '--memory',
    '16M',
    '--cpus',
    '3',
    '--dry-run',
  ])
  expect(status).toBe(0)
  expect(output).toMatch(/^3 vCPUs, entered by linux64 in long mode at 0x100000\n/)
  expect(output).toMatch(/^ {2}0000000000-0000ffffff$/m)
  expect(output).toMatch(/^ {2}0000100000-0000[0-9a-f]{6} {2}kernel segment 0$/m)
  expect(output).toMatch(/ACPI table APIC$/m)
  expect(output).toMatch(/RESERVED$/m)
})

test('the debug exit is the exit status, the debug port goes to standard error', () => {
  const image = join(folder, 'exit.bin')
  // mov al, 'E'; mov dx, 0x402; out dx, al; mov al, 42; out 0xf4, al; jmp $
  writeFileSync(image, Buffer.from('b045ba0204eeb02ae6f4ebfe', 'hex'))
  const config = join(folder, 'flat.json')
  writeFileSync(config, '{"boot": {"flat": "exit.bin", "gpa": "0x7c00", "mode": "real"}}')
  expect(run(['--config', config, '--debug-port'])).toEqual({ status: 42, output: 'E' })
})

const failures: [string, string[], number, RegExp][] = [
  ['a crash', ['--kernel', crasher], 1, /triple-faulted at rip 0x[\s\S]*rsp +0{16}/],
  ['the end of its time', ['--kernel', kernel, '--timeout', '0.3'], 124, /time is up/],
  ['a kernel that is not there', ['--kernel', join(folder, 'none')], 1, /ENOENT.*none/],
  [
    'a kernel that is none',
    ['--kernel', process.execPath.replace(/node$/, 'npm')],
    1,
    /ERR_BOOT|neither/,
  ],
  ['no kernel', [], 2, /Usage: node-kvm run/],
  ['an odd size', ['--kernel', kernel, '--memory', '12Q'], 1, /size such as '512M'/],
  [
    'too long a command line',
    ['--kernel', kernel, '--cmdline', 'x'.repeat(5000)],
    1,
    /command line/,
  ],
]

test.each(failures)('%s is said, with the status', (_, args, status, message) => {
  const result = run(args)
  expect(result).toMatchObject({ status })
  expect(result.output).toMatch(message)
})

function run(args: string[]): Ended {
  try {
    const output = execFileSync(process.execPath, [command, 'run', ...args], {
      encoding: 'utf8',
      input: '',
      stdio: 'pipe',
    })
    return { status: 0, output }
  } catch (error) {
    const { status, stdout, stderr } = error as { status: number; stdout: string; stderr: string }
    return { status, output: stdout + stderr }
  }
}

test('--timeline tells what happened when, --timeline-svg draws it', () => {
  const picture = join(folder, 'timeline.svg')
  const args = ['--kernel', kernel, '--memory', '16M', '--timeline', '--timeline-svg', picture]
  const { status, stderr } = spawnSync(process.execPath, [command, 'run', ...args], {
    input: 'q',
    encoding: 'utf8',
  })
  expect(status).toBe(0)
  const names = stderr.split('\n').map((line) => line.slice(23))
  const order = [
    'process start',
    'images read',
    'images placed',
    'first instruction',
    'first output',
    'end',
  ]
  expect(names.filter((name) => order.includes(name))).toEqual(order)
  expect(readFileSync(picture, 'utf8')).toMatch(/^<svg [\s\S]*first instruction[\s\S]*<\/svg>\n$/)
})

test('--cpu and its kin make the processors', () => {
  const args = ['--kernel', kernel, '--memory', '16M']
  expect(
    run([...args, '--cpus', '6', '--threads', '2', '--cores', '3', '--dry-run']).output,
  ).toMatch(/^6 vCPUs/)
  expect(run([...args, '--cpu', 'x86-64,nonsense']).output).toMatch(/lacks nonsense|CPUID feature/)
  expect(run([...args, '--cpu', 'z80']).output).toMatch(/'x86-64-v4'/)
})
