// @ts-check
// docs/api-coverage.md: every KVM request on every kind of file, the method that makes it, the tests
// that issue it, and the kernels that answered.
//
//   node tools/api-coverage.mjs           writes it
//   node tools/api-coverage.mjs --check   fails when it is out of date, or a request has no method
//
// Methods are found by the `@ioctl` tags of src/core, tests by their `// covers: KVM_X@vcpu` lines,
// answers in docs/api-answers.json, which tools/trace-ioctls.mjs writes.

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const read = (/** @type {string} */ path) => readFileSync(join(root, path), 'utf8')
const PAGE = 'docs/api-coverage.md'

/** Kinds of file in the order of the page, and the classes whose methods belong to each. */
const KINDS = /** @type {const} */ ([
  ['system', 'Kvm', /^kvm(-.*)?\.ts$/],
  ['vm', 'Vm', /^vm(-.*)?\.ts$/],
  ['vcpu', 'Vcpu', /^vcpu(-.*)?\.ts$/],
  ['device', 'Device', /^device\.ts$/],
])

/** In the header, but no kernel dispatches it any more: not among those that a kernel could answer. */
const GONE = new Map([
  ['KVM_GET_NR_MMU_PAGES@vm', 'Linux 6.4 removed the handler; the number stays in the header.'],
])

/** Why a request gets no answer from the kernels that the tests run on. */
const REASONS = /** @type {const} */ ([
  [/^KVM_MEMORY_ENCRYPT_OP@vcpu/, 'needs Intel TDX'],
  [/^KVM_MEMORY_ENCRYPT/, 'needs AMD SEV or Intel TDX'],
  [/^KVM_(ONE_REG|GET_ONE_REG|SET_ONE_REG|GET_REG_LIST)@/, 'needs Linux 6.18'],
  [/_DEVICE_ATTR@system/, 'needs Linux 5.17'],
  [/GET_DEVICE_ATTR@device/, 'the VFIO device, the only one on x86, has nothing to read'],
  [/_DEVICE(_ATTR)?@/, 'needs a VFIO device'],
  [/^KVM_XEN_/, 'needs a kernel with Xen support (CONFIG_KVM_XEN), which Debian leaves out'],
  [/HYPERV|_HV_/, 'needs a kernel with Hyper-V support (CONFIG_KVM_HYPERV)'],
  [/^KVM_SMI/, 'needs a kernel with SMM support (CONFIG_KVM_SMM)'],
  [/NESTED_STATE/, 'needs nested virtualization'],
  [/PRE_FAULT/, 'needs Linux 6.11 and two-dimensional paging'],
  [/GUEST_MEMFD|MEMORY_ATTRIBUTES|REGION2/, 'needs Linux 6.8 and private memory'],
  [/TSC_KHZ@vm/, 'needs a CPU that scales the TSC'],
])

/** @typedef {{ name: string, scope: string, key: string, capability: string | null, deprecated: boolean }} Row */

/** @returns {Row[]} */
function rows() {
  const all = JSON.parse(read('reference/kvm-ioctls.json'))
  return KINDS.flatMap(([scope]) =>
    all
      .filter((/** @type {{ scopes: string[] }} */ row) => row.scopes.includes(scope))
      .map((/** @type {Row} */ row) => ({ ...row, scope, key: `${row.name}@${scope}` })),
  )
}

/** Methods by `KVM_X@kind`. @returns {Map<string, string[]>} */
function methods() {
  /** @type {Map<string, string[]>} */
  const found = new Map()
  for (const file of readdirSync(join(root, 'src/core'), { encoding: 'utf8', recursive: true })) {
    const kind = KINDS.find(([, , pattern]) => pattern.test(basename(file)))
    if (kind === undefined) continue
    const [scope, owner] = kind
    // A doc comment with the tag, and the member that follows it.
    const member =
      /\/\*\*((?:(?!\*\/)[\s\S])*?@ioctl(?:(?!\*\/)[\s\S])*?)\*\/\s*((?:static |async |override )*)(?:get |set )?(\w+)\s*[<(]/g
    for (const [, comment, modifiers, name] of read(`src/core/${file}`).matchAll(member)) {
      for (const [, ioctl] of (comment ?? '').matchAll(/@ioctl (KVM_\w+)/g)) {
        const key = `${ioctl}@${scope}`
        const method = `${modifiers?.includes('static') ? owner : owner.toLowerCase()}.${name}`
        found.set(key, [...new Set([...(found.get(key) ?? []), method])])
      }
    }
  }
  return found
}

/** Test files by `KVM_X@kind`. @returns {Map<string, string[]>} */
function tests() {
  /** @type {Map<string, string[]>} */
  const found = new Map()
  for (const folder of ['unit', 'kvm', 'process', 'lab']) {
    if (!existsSync(join(root, 'test', folder))) continue
    for (const file of readdirSync(join(root, 'test', folder)).sort()) {
      if (!file.endsWith('.test.ts')) continue
      const text = read(`test/${folder}/${file}`)
      for (const [, list] of text.matchAll(/^\/\/ covers: (.*)$/gm)) {
        for (const key of list?.trim().split(/\s+/) ?? []) {
          found.set(key, [...(found.get(key) ?? []), `test/${folder}/${file}`])
        }
      }
    }
  }
  return found
}

/** @type {Record<string, { kernel: string, answers: Record<string, string> }>} */
const answers = existsSync(join(root, 'docs/api-answers.json'))
  ? JSON.parse(read('docs/api-answers.json'))
  : {}

/** @param {string} key */
function answered(key) {
  const where = Object.entries(answers).filter(([, { answers: given }]) => isAnswer(given[key]))
  if (where.length > 0) return where.map(([place]) => place).join(', ')
  const refused = Object.entries(answers).filter(([, { answers: given }]) => given[key])
  if (refused.length === 0) return 'not issued'
  return `refused: ${refused.map(([place, { answers: given }]) => `${place} ${given[key]}`).join(', ')}`
}

/** @param {string | undefined} result */
const isAnswer = (result) =>
  result !== undefined && !/ENOTTY|EINVAL|EOPNOTSUPP|ENXIO|ENODEV|EPERM/.test(result)

/** @param {Row[]} all */
function page(all) {
  const byMethod = methods()
  const byTest = tests()
  const live = all.filter(({ key }) => !GONE.has(key))
  const withMethod = live.filter(({ key }) => byMethod.has(key))
  const withTest = live.filter(({ key }) => byTest.has(key))
  const withAnswer = live.filter(({ key }) => !/refused|not issued/.test(answered(key)))
  const kernels = Object.entries(answers).map(([place, { kernel }]) => `${place} Linux ${kernel}`)
  const rest = live.filter((row) => !withAnswer.includes(row))
  return `<!-- Written by tools/api-coverage.mjs. Do not edit. -->
# API coverage

Every request of the KVM API on x86-64 (Linux 7.3), on each kind of file that takes it: the method that
makes exactly this request, the tests that issue it, and where a kernel answered it when the tests ran
under \`strace\` (${kernels.join('; ') || 'not traced yet'}). "Refused" means that no kernel of these does
it; the refusal is tested. Renewed by \`node tools/trace-ioctls.mjs host -- npx vitest run --project kvm\` and
\`npm run test:lab:kvm -- --trace\`.

| | of ${live.length} |
|---|---|
| with a method | ${withMethod.length} |
| with a test | ${withTest.length} |
| answered by a kernel | ${withAnswer.length} |

${[...GONE].map(([key, why]) => `\`${key.replace('@', '` on a ')} is not counted. ${why}`).join('\n')}

${KINDS.map(([scope, owner]) => section(scope, owner, all, byMethod, byTest)).join('\n')}
## Not answered

${rest.length === 0 ? 'Nothing.' : rest.map(({ key }) => `- \`${key}\`: ${reason(key)}; ${answered(key)}`).join('\n')}
`
}

/** @param {string} key */
const reason = (key) => REASONS.find(([pattern]) => pattern.test(key))?.[1] ?? 'unexplained'

/**
 * @param {string} scope @param {string} owner @param {Row[]} all
 * @param {Map<string, string[]>} byMethod @param {Map<string, string[]>} byTest
 */
function section(scope, owner, all, byMethod, byTest) {
  const lines = all
    .filter((row) => row.scope === scope)
    .map(({ name, key, capability, deprecated }) => {
      const method = (byMethod.get(key) ?? []).map((text) => `\`${text}\``).join(' ') || '—'
      const files = byTest.get(key) ?? []
      const links = files.map((file) => `[${file.replace(/^test\/|\.test\.ts$/g, '')}](../${file})`)
      const request = `\`${name}\`${deprecated ? ' (superseded)' : ''}`
      return `| ${request} | ${capability ? `\`${capability}\`` : ''} | ${method} | ${links.join(' ') || '—'} | ${answered(key)} |`
    })
  return `## ${owner}

| request | capability | method | tests | answered |
|---|---|---|---|---|
${lines.join('\n')}
`
}

const all = rows()
const text = page(all)
if (process.argv.includes('--check')) {
  const byMethod = methods()
  const byTest = tests()
  const live = all.filter(({ key }) => !GONE.has(key))
  const known = new Set(all.map(({ key }) => key))
  const problems = [
    ...live.filter(({ key }) => !byMethod.has(key)).map(({ key }) => `${key} has no method`),
    ...live.filter(({ key }) => !byTest.has(key)).map(({ key }) => `${key} has no test`),
    ...[...byMethod.keys(), ...byTest.keys()]
      .filter((key) => !known.has(key))
      .map((key) => `${key} is no request of the reference`),
    ...(existsSync(join(root, PAGE)) && read(PAGE) === text ? [] : [`${PAGE} is out of date`]),
  ]
  for (const problem of problems) console.error(problem)
  if (problems.length > 0) process.exitCode = 1
} else {
  writeFileSync(join(root, PAGE), text)
}
