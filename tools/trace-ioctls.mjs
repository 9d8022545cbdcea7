// @ts-check
// Which requests a kernel answers: runs a command under strace and counts, for each KVM request on
// each kind of file, what the kernel said. Writes the result into docs/api-answers.json.
//
//   node tools/trace-ioctls.mjs host -- npx vitest run test/kvm
//   npm run lab -- --out DIR node tools/trace-ioctls.mjs lab --into /lab/out/answers.json -- …
//   node tools/trace-ioctls.mjs lab --merge DIR/answers.json

import { execFileSync, spawn } from 'node:child_process'
import {
  createReadStream,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const reference = JSON.parse(readFileSync(join(root, 'reference/kvm-ioctls.json'), 'utf8'))
const ANSWERS = join(root, 'docs/api-answers.json')

/** Results of a request that the kernel did not dispatch, or would not do at all. */
const REFUSALS = new Set(['ENOTTY', 'EINVAL', 'EOPNOTSUPP', 'ENXIO', 'ENODEV', 'EPERM'])

/** @type {Map<string, string>} `vcpu 0xae80` to `KVM_RUN@vcpu` */
const known = new Map(
  reference.flatMap((/** @type {{ name: string, scopes: string[], request: string }} */ row) =>
    row.scopes.map((scope) => [`${scope} ${Number(row.request)}`, `${row.name}@${scope}`]),
  ),
)

/** The kind of a file by what strace shows behind its number. @param {string} path */
function kindOf(path) {
  if (path === '/dev/kvm') return 'system'
  if (path.startsWith('anon_inode:kvm-vcpu:')) return 'vcpu'
  if (path === 'anon_inode:kvm-vm') return 'vm'
  if (path.startsWith('anon_inode:kvm-')) return 'device'
  return undefined
}

// A call that is interrupted by another thread's line is shown in two parts, the second without its
// arguments: the first is remembered by thread.
const WHOLE =
  /^(\d+)\s+ioctl\(\d+<([^>]+)>, (0x[0-9a-f]+)(?:, .*)?\)\s+= (-?\d+)(?:<[^>]*>)?(?: (E[A-Z0-9]+))?/
const FIRST = /^(\d+)\s+ioctl\(\d+<([^>]+)>, (0x[0-9a-f]+).*<unfinished \.\.\.>$/
const LAST = /^(\d+)\s+<\.\.\. ioctl resumed>.*\)\s+= (-?\d+)(?:<[^>]*>)?(?: (E[A-Z0-9]+))?/

/** @param {string} log path of strace's output */
async function count(log) {
  /** @type {Map<string, Set<string>>} */
  const results = new Map()
  /** @type {Map<string, [path: string, request: string]>} */
  const pending = new Map()
  const note = (
    /** @type {string} */ path,
    /** @type {string} */ request,
    /** @type {string} */ result,
  ) => {
    const name = known.get(`${kindOf(path)} ${Number(request)}`)
    if (name === undefined) return
    const seen = results.get(name) ?? new Set()
    results.set(name, seen.add(result))
  }
  for await (const line of createInterface({ input: createReadStream(log) })) {
    const first = FIRST.exec(line)
    if (first) {
      pending.set(first[1] ?? '', [first[2] ?? '', first[3] ?? ''])
      continue
    }
    const whole = WHOLE.exec(line)
    if (whole) {
      note(whole[2] ?? '', whole[3] ?? '', whole[5] ?? 'ok')
      continue
    }
    const last = LAST.exec(line)
    const [path, request] = pending.get(last?.[1] ?? '') ?? []
    if (last && path !== undefined && request !== undefined) note(path, request, last[3] ?? 'ok')
  }
  return results
}

/** One word for all results of a request: `ok`, an error that still is an answer, or the refusal. */
function answer(/** @type {Set<string>} */ results) {
  if (results.has('ok')) return 'ok'
  const errors = [...results].sort()
  return errors.find((error) => !REFUSALS.has(error)) ?? errors.join(' ')
}

/** @param {string[]} command @param {string} log @returns {Promise<number>} */
function run(command, log) {
  const options = ['-f', '-qq', '--seccomp-bpf', '-X', 'raw', '-y', '-e', 'trace=ioctl']
  return new Promise((resolve, reject) => {
    const child = spawn('strace', [...options, '-e', 'signal=none', '-o', log, ...command], {
      stdio: 'inherit',
    })
    child.on('error', reject)
    child.on('exit', (code) => resolve(code ?? 1))
  })
}

/** @param {string[]} command */
async function trace(command) {
  const folder = mkdtempSync(join(tmpdir(), 'trace-ioctls-'))
  try {
    // A pipe, not a file: a test that runs a guest for a second leaves a hundred thousand lines.
    const log = join(folder, 'log')
    execFileSync('mkfifo', [log])
    const [results, status] = await Promise.all([count(log), run(command, log)])
    const answers = [...results].map(([name, set]) => [name, answer(set)])
    return { status, kernel: release(), answers: Object.fromEntries(answers.sort()) }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Answers of an earlier run stay unless this one knows better. */
function merge(
  /** @type {Record<string, string>} */ old,
  /** @type {Record<string, string>} */ fresh,
) {
  const merged = { ...old }
  for (const [name, result] of Object.entries(fresh)) if (old[name] !== 'ok') merged[name] = result
  return Object.fromEntries(Object.entries(merged).sort())
}

async function main() {
  const [where, ...rest] = process.argv.slice(2)
  const dashes = rest.indexOf('--')
  const options = dashes < 0 ? rest : rest.slice(0, dashes)
  const command = dashes < 0 ? [] : rest.slice(dashes + 1)
  const option = (/** @type {string} */ name) => {
    const at = options.indexOf(name)
    return at < 0 ? undefined : options[at + 1]
  }
  const source = option('--merge')
  if (where === undefined || (command.length === 0) === (source === undefined)) {
    console.error('usage: trace-ioctls.mjs host|lab [--into FILE] -- COMMAND… | --merge FILE')
    return 2
  }
  const { status, kernel, answers } =
    source === undefined
      ? await trace(command)
      : { status: 0, ...JSON.parse(readFileSync(source, 'utf8'))[where] }
  const file = option('--into') ?? ANSWERS
  const all = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {}
  const old = all[where]?.kernel === kernel ? all[where].answers : {}
  all[where] = { kernel, answers: merge(old, answers) }
  writeFileSync(file, `${JSON.stringify(all, null, 2)}\n`)
  const count = Object.values(all[where].answers).filter((result) => result === 'ok').length
  console.log(`${where} (${kernel}): ${count} of ${known.size} requests answered`)
  return status
}

process.exitCode = await main()
