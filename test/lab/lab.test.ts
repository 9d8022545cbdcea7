// The lab itself, seen from the host: a command in the machine behaves as if it ran here, and a machine
// that fails says so. Starts QEMU several times; needs no /dev/kvm.
import { type ChildProcess, type ExecFileException, execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { commandScript } from '../../lab/command-script.mjs'
import { createEndMark, EndMarkFilter } from '../../lab/end-mark.mjs'
import { initramfs, kernelBzImage, kernelElf } from '../../lab/linux.mjs'
import { askMonitor } from '../../lab/qemu-monitor.mjs'

const root = join(import.meta.dirname, '..', '..')
const MACHINE_TIMEOUT_MS = 120_000

interface Outcome {
  readonly status: number | string | null | undefined
  readonly stdout: string
  readonly stderr: string
}

function execute(program: string, args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const options = { cwd: root, maxBuffer: 1 << 26 }
    execFile(program, args, options, (error: ExecFileException | null, stdout, stderr) => {
      resolve({ status: error === null ? 0 : error.code, stdout, stderr })
    })
  })
}

const lab = (...args: string[]) => execute(process.execPath, ['lab/run.mjs', ...args])

const startLab = (...args: string[]) =>
  spawn(process.execPath, ['lab/run.mjs', ...args], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  })

const exitOf = async (process: ChildProcess) =>
  process.exitCode ?? (await once(process, 'close'))[0]

/** Where the emulator that a runner has started keeps its files. */
function emulatorFolder({ pid }: ChildProcess): string {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
  const line = readFileSync(`/proc/${children.trim()}/cmdline`, 'utf8')
  return /unix:(.*)\/monitor,/.exec(line)![1]!
}

describe('a command in the lab', { timeout: MACHINE_TIMEOUT_MS }, () => {
  let out: string
  // The first run in a fresh clone makes the machine's parts and says so.
  beforeAll(async () => {
    out = mkdtempSync(join(tmpdir(), 'lab-test-'))
    await lab('true')
  }, 5 * MACHINE_TIMEOUT_MS)
  afterAll(() => rmSync(out, { recursive: true }))

  it('gets its arguments, directory, environment and KVM, and gives its status and files', async () => {
    const args = ["it's", 'a  b', '', '$HOME `id` \\', '*', 'new\nline', '--timeout', 'ä€']
    const script = `
      const { readFileSync, existsSync, writeFileSync } = require('node:fs')
      const parameter = (name) => readFileSync('/sys/module/kvm_amd/parameters/' + name, 'utf8').trim()
      writeFileSync('/lab/out/facts.json', JSON.stringify({
        args: process.argv.slice(1), directory: process.cwd(), lab: process.env.LAB,
        npt: parameter('npt'), nested: parameter('nested'),
        devices: ['/dev/kvm', '/dev/net/tun', '/dev/shm', '/dev/pts/ptmx'].filter(existsSync),
      }))
      console.log('to stdout')
      console.error('to stderr')
      process.exit(3)`
    const outcome = await lab('--out', out, process.execPath, '-e', script, '--', ...args)
    expect(outcome).toEqual({ status: 3, stdout: 'to stdout\n', stderr: 'to stderr\n' })
    expect(JSON.parse(readFileSync(join(out, 'facts.json'), 'utf8'))).toEqual({
      args,
      directory: root,
      lab: 'svm',
      npt: 'Y',
      nested: '1',
      devices: ['/dev/kvm', '/dev/net/tun', '/dev/shm', '/dev/pts/ptmx'],
    })
  })

  it('that a signal kills ends with 128 and its number, whatever it leaves running', async () => {
    const outcome = await lab('sh', '-c', 'sleep 1000 & echo "$LAB"; kill -KILL $$')
    expect(outcome).toEqual({ status: 137, stdout: 'svm\n', stderr: '' })
  })

  it('brings 5 MB of output through unchanged, without writing to the host', async () => {
    const leak = join(out, 'leak')
    const script = `seq 1 2000000 | head -c 5000000 | tee '${leak}'; md5sum '${leak}' >&2`
    const outcome = await lab('sh', '-c', script)
    expect(outcome.status).toBe(0)
    expect(outcome.stdout).toHaveLength(5_000_000)
    const digest = createHash('md5').update(outcome.stdout).digest('hex')
    expect(outcome.stderr).toBe(`${digest}  ${leak}\n`)
    expect(existsSync(leak)).toBe(false)
  })

  it('that does not exist ends with 127', async () => {
    expect((await lab('no-such-command')).status).toBe(127)
  })

  it('that runs too long ends with 124 and says so', async () => {
    const outcome = await lab('--timeout', '3', 'sleep', '1000')
    expect(outcome).toMatchObject({ status: 124, stdout: '' })
    expect(outcome.stderr).toContain('the time limit of 3 s was reached')
  })

  it('shows its output while it runs, and a signal to the runner ends both', async () => {
    const runner = spawn(process.execPath, ['lab/run.mjs', 'sh', '-c', 'echo on; sleep 1000'], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [output] = await once(runner.stdout, 'data')
    expect(String(output)).toBe('on\n')
    runner.kill('SIGTERM')
    expect(await once(runner, 'close')).toEqual([143, null])
  })

  it('that takes the machine down ends with 125 and the end of the console', async () => {
    const outcome = await lab('sh', '-c', 'echo c >/proc/sysrq-trigger')
    expect(outcome.status).toBe(125)
    expect(outcome.stderr).toContain('before the command did')
    expect(outcome.stderr).toContain('Kernel Offset: disabled')
  })

  // Longer than a machine takes to start, also on a busy host.
  const life = ['--life', '30']

  it('in a machine that stops for good ends with 125, and where its processors are', async () => {
    const runner = startLab(...life, 'sh', '-c', 'echo on; sleep 1000')
    await once(runner.stdout, 'data')
    await askMonitor(join(emulatorFolder(runner), 'monitor'), 'stop')
    const stderr = await text(runner.stderr)
    expect(await exitOf(runner)).toBe(125)
    expect(stderr).toContain('no sign of life for 30 s')
    expect(stderr).toMatch(/CPU#0[\s\S]*RIP=[\s\S]*CPU#1[\s\S]*RIP=/)
  })

  it('that had said nothing when its machine stopped is started again', async () => {
    const runner = startLab(
      ...life,
      '--out',
      out,
      'sh',
      '-c',
      'echo >>/lab/out/starts; sleep 4; echo on',
    )
    const starts = join(out, 'starts')
    while (!existsSync(starts)) await sleep(100)
    await askMonitor(join(emulatorFolder(runner), 'monitor'), 'stop')
    const [stdout, stderr] = await Promise.all([text(runner.stdout), text(runner.stderr)])
    expect(stderr).toContain('it locked up, and is started again')
    expect(stdout).toBe('on\n')
    expect(await exitOf(runner)).toBe(0)
    expect(readFileSync(starts, 'utf8')).toBe('\n\n')
  })

  it.each([
    { args: [], complaint: 'no command' },
    { args: ['--bogus', '1', 'true'], complaint: "Unknown option '--bogus'" },
    { args: ['--timeout', 'soon', 'true'], complaint: '--timeout takes a positive number' },
    { args: ['--threads', 'many', 'true'], complaint: '--threads is single or multi' },
    { args: ['--modules', 'no_such', 'true'], complaint: 'no module "no_such"' },
  ])('is not started when the options are wrong: $complaint', async ({ args, complaint }) => {
    const outcome = await lab(...args)
    expect(outcome).toMatchObject({ status: 125, stdout: '' })
    expect(outcome.stderr).toContain(complaint)
  })
})

describe('a Linux guest from lab/linux.mjs', { timeout: MACHINE_TIMEOUT_MS }, () => {
  const boot = (kernel: string, initrd: string) =>
    execute('qemu-system-x86_64', [
      ...['-accel', 'tcg', '-m', '256', '-no-reboot', '-nodefaults', '-no-user-config'],
      ...['-display', 'none', '-serial', 'stdio', '-kernel', kernel, '-initrd', initrd],
      ...['-append', 'console=ttyS0 quiet panic=-1 reboot=k'],
    ])

  it.each([
    { shape: 'bzImage', kernel: kernelBzImage, end: 'poweroff' as const },
    { shape: 'vmlinux', kernel: kernelElf, end: 'reboot' as const },
  ])('runs its script from the $shape and does a $end', async ({ kernel, end }) => {
    const script = 'echo "modules: $(lsmod | grep -c virtio)"; exit 5\n'
    const image = initramfs(script, { end, modules: ['virtio_blk'] })
    expect(initramfs(script, { end, modules: ['virtio_blk'] })).toBe(image)
    const { stdout, status } = await boot(kernel(), image)
    expect(status).toBe(0)
    expect(stdout).toMatch(/modules: [1-9]/)
    expect(stdout).toContain('init: ended with status 5')
    expect(stdout).toContain(end === 'reboot' ? 'Restarting system' : 'Power down')
  })
})

describe('commandScript', () => {
  it('gives a shell the very arguments and variables', async () => {
    const words = fc.string({ unit: 'grapheme' }).filter((value) => !value.includes('\0'))
    await fc.assert(
      fc.asyncProperty(fc.array(words), words, async (args, value) => {
        const script = commandScript({
          command: ['printf', '%s\\0', 'first', ...args],
          directory: root,
          environment: { VALUE: value, 'not a name': 'ignored' },
        })
        const withVariable = `${script.replace('\nexec ', '\nprintf "%s\\0" "$VALUE"; exec ')}`
        const { stdout } = await execute('sh', ['-c', withVariable])
        expect(stdout.split('\0')).toEqual([value, 'first', ...args, ''])
      }),
      { numRuns: 50 },
    )
  })
})

describe('EndMarkFilter', () => {
  it('separates output and status however the stream is cut', () => {
    const mark = createEndMark()
    const piece = fc.oneof(
      fc.string(),
      fc.nat(mark.length - 1).map((length) => mark.slice(0, length)),
    )
    fc.assert(
      fc.property(fc.array(piece), fc.nat(255), fc.array(fc.nat()), (pieces, status, cuts) => {
        const output = Buffer.from(pieces.join(''))
        const stream = Buffer.concat([output, Buffer.from(`${mark} ${status}\n`)])
        const filter = new EndMarkFilter(mark)
        const at = [0, ...cuts.map((cut) => cut % stream.length).sort((a, b) => a - b)]
        const passed = at.map((start, index) => filter.push(stream.subarray(start, at[index + 1])))
        expect(Buffer.concat(passed)).toEqual(output)
        expect(filter.status).toBe(status)
      }),
    )
  })

  it('holds nothing back that cannot be the start of a mark', () => {
    const filter = new EndMarkFilter(createEndMark())
    expect(filter.push(Buffer.from('prompt> ')).toString()).toBe('prompt> ')
    expect(filter.push(Buffer.from('\x1elab-'))).toHaveLength(0)
    expect(filter.push(Buffer.from('x')).toString()).toBe('\x1elab-x')
    expect(filter.status).toBeUndefined()
  })
})
