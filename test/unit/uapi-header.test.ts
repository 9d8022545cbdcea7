// The generated words against the header of the machine that runs the test, as its C compiler sees
// it. That header may be years older: what it does not know is left out, and what it knows must
// agree. NODE_KVM_HEADERS names another `usr/include`: with that of the kernel that the words come
// from, nothing is left out. Compiled as C: as C++ an empty struct has a byte, and request numbers come out wrong.

import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import * as uapi from '../../src/uapi/index.js'
import { type FieldLayout, layouts, requests, type StructName } from '../../src/uapi/index.js'

/** A C expression of type integer, and what the generated words say it is. */
interface Claim {
  subject: string
  expression: string
  expected: bigint
}

const headers = process.env.NODE_KVM_HEADERS
const includes = headers ? ['-I', headers, '-I', join(headers, 'x86_64-linux-gnu')] : []

const head =
  '#include <linux/errno.h>\n#include <linux/kvm.h>\n#include <linux/kvm_para.h>\n#include <stddef.h>\n#include <stdio.h>\n#include <string.h>\n#define PAGE_SIZE 4096\n'

let directory: string

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'uapi-header-'))
})

afterAll(() => {
  rmSync(directory, { recursive: true, force: true })
})

function compile(source: string, args: string[]) {
  const path = join(directory, 'probe.c')
  writeFileSync(path, source)
  const result = spawnSync('cc', ['-x', 'c', '-w', ...includes, ...args, path], {
    encoding: 'utf8',
  })
  if (result.error) throw new Error(`no C compiler: ${result.error.message}`)
  return result
}

/** clang stops at twenty errors unless told not to; gcc does not know the option. */
function allErrors(): string[] {
  const { stdout } = spawnSync('cc', ['--version'], { encoding: 'utf8' })
  return stdout.includes('clang') ? ['-ferror-limit=0'] : []
}

/** The claims whose expression this machine's header can evaluate. */
function known(claims: Claim[]): Claim[] {
  const first = head.split('\n').length
  // Constants, not statements: a macro that is missing would pass for a function, declared implicitly.
  const lines = claims.map(({ expression }, k) => `enum { e${k} = !!(${expression}) };`)
  const { stderr } = compile(head + lines.join('\n'), ['-fsyntax-only', ...allErrors()])
  expect(stderr, 'the header itself must compile').not.toMatch(/fatal error/)
  const bad = [...stderr.matchAll(/probe\.c:(\d+):(?:\d+:)? error/g)].map((match) =>
    Number(match[1]),
  )
  const unknown = new Set(bad.map((line) => line - first))
  return claims.filter((_, k) => !unknown.has(k))
}

function evaluate(claims: Claim[]): bigint[] {
  const lines = claims.map(({ expression }) => `  P(${expression});`)
  const print =
    '#define P(x) ((x) < 0 ? printf("%lld\\n", (long long)(x)) : printf("%llu\\n", (unsigned long long)(x)))\n'
  const binary = join(directory, 'probe')
  const source = `${head}${print}int main(void) {\n${lines.join('\n')}\n  return 0;\n}\n`
  const { status, stderr } = compile(source, ['-o', binary])
  expect(status, stderr).toBe(0)
  const output = execFileSync(binary, { encoding: 'utf8' })
  return output.trim().split('\n').map(BigInt)
}

function check(claims: Claim[]): Claim[] {
  const left = known(claims)
  const values = evaluate(left)
  const found = left.map(({ subject }, k) => [subject, values[k]])
  expect(found).toEqual(left.map(({ subject, expected }) => [subject, expected]))
  return left
}

/** Every field reachable from a top-level struct by a C path, nested structs included. */
function paths(struct: StructName, top: string, prefix: string): [string, FieldLayout, number][] {
  return Object.entries(layouts[struct].fields).flatMap(([name, field]) => {
    const path = `${prefix}${name}`
    const own: [string, FieldLayout, number][] = [[path, field, 0]]
    const type = field.type.slice('struct:'.length)
    // Named structs are compared by themselves.
    if (!type.startsWith(`${top}.`)) return own
    const element = `${path}${(field.dims ?? []).map(() => '[0]').join('')}.`
    const inner = paths(type as StructName, top, element)
    return [
      ...own,
      ...inner.map(([p, f, base]): [string, FieldLayout, number] => [p, f, base + field.offset]),
    ]
  })
}

const tops = (Object.keys(layouts) as StructName[]).filter((name) => !name.includes('.'))

describe("the machine's linux/kvm.h", () => {
  it('has the same fields at the same places', () => {
    const claims = tops.flatMap((struct) =>
      paths(struct, struct, '').flatMap(([path, field, base]) => {
        if (field.bits) return []
        const subject = `${struct}.${path}`
        const offset = {
          subject,
          expression: `offsetof(struct ${struct}, ${path})`,
          expected: BigInt(base + field.offset),
        }
        const size = {
          subject,
          expression: `sizeof(((struct ${struct} *)0)->${path})`,
          expected: BigInt(field.size),
        }
        return field.flexible ? [offset] : [offset, size]
      }),
    )
    // A struct that has grown since then also changed the fields that hold it.
    const grown = grownStructs()
    const fixed = claims.filter(
      ({ subject, expression }) => !(expression.startsWith('sizeof') && grown.has(subject)),
    )
    const left = check(fixed)
    const subjects = new Set(left.map(({ subject }) => subject))
    console.log(
      `compared ${subjects.size} of ${new Set(claims.map((claim) => claim.subject)).size} fields`,
    )
    // The oldest header that the package builds with knows far more than this.
    expect(subjects.size).toBeGreaterThan(400)
  })

  it('has structs of the same size', () => {
    const grown = grownStructs()
    const claims = tops
      .filter((struct) => !grown.has(struct) && (headers || !shrunk.has(struct)))
      .map((struct) => ({
        subject: struct,
        expression: `sizeof(struct ${struct})`,
        expected: BigInt(layouts[struct].size),
      }))
    const left = check(claims)
    console.log(`compared ${left.length} of ${tops.length} structs`)
    expect(left.length).toBeGreaterThan(70)
  })

  it('has the same requests', () => {
    const claims = Object.values(requests).map(({ name, request }) => ({
      subject: name,
      expression: `(unsigned int)${name}`,
      expected: BigInt(request),
    }))
    const left = check(claims)
    console.log(`compared ${left.length} of ${claims.length} requests`)
    expect(left.length).toBeGreaterThan(90)
  })

  it('has the same constants', () => {
    const claims = Object.entries(uapi)
      .filter(([name]) => /^[A-Z][A-Z0-9_a-z]+$/.test(name) && !(name in requests))
      .filter(([name]) => !growing.test(name))
      .flatMap(([name, value]) =>
        typeof value === 'number' || typeof value === 'bigint'
          ? [{ subject: name, expression: name, expected: BigInt(value) }]
          : [],
      )
    const left = check(claims)
    console.log(`compared ${left.length} of ${claims.length} constants`)
    expect(left.length).toBeGreaterThan(400)
  })

  it('has the same bit-fields', () => {
    const fields = Object.entries(layouts['kvm_ioapic_state.redirtbl.fields'].fields).filter(
      ([, field]) => field.bits,
    )
    const base = layouts.kvm_ioapic_state.fields.redirtbl!.offset
    const lines = fields.map(
      ([name]) =>
        `  memset(&s, 0, sizeof s); s.redirtbl[0].fields.${name} = ~0; show("${name}", (unsigned char *)&s);`,
    )
    const source = `${head}
static void show(const char *name, const unsigned char *p) {
  for (unsigned i = 0; i < sizeof(struct kvm_ioapic_state); i++)
    if (p[i]) printf("%s %u %u\\n", name, i, p[i]);
}
int main(void) {
  struct kvm_ioapic_state s;
${lines.join('\n')}
  return 0;
}
`
    const binary = join(directory, 'probe')
    const { status, stderr } = compile(source, ['-o', binary])
    expect(status, stderr).toBe(0)
    const expected = fields.map(([name, { offset, bits }]) => {
      const mask = ((1 << bits!.width) - 1) << bits!.shift
      return `${name} ${base + offset} ${mask}`
    })
    expect(execFileSync(binary, { encoding: 'utf8' }).trim().split('\n')).toEqual(expected)
  })
})

/** Structs that were larger once: older headers end it with an `enabled` that KVM never used. */
const shrunk = new Set(['kvm_vcpu_pv_apf_data'])

/** Constants that count or cover what a header knows, and so grow with it. */
const growing = /(_MAX|_nr_max|VALID_MASK|VALID_FLAG_MASK|VALID_FIELDS)$/

/** Structs (and fields that hold them) of which the machine's header lacks a field. */
function grownStructs(): Set<string> {
  const claims = tops.flatMap((struct) =>
    paths(struct, struct, '')
      .filter(([, field]) => !field.padding && !field.bits && !field.flexible)
      .map(([path]) => ({
        subject: `${struct}.${path}`,
        expression: `offsetof(struct ${struct}, ${path})`,
        expected: 0n,
      })),
  )
  const present = new Set(known(claims))
  const missing = claims.filter((claim) => !present.has(claim)).map(({ subject }) => subject)
  // kvm_a.b.c missing: kvm_a and kvm_a.b may have grown.
  const grown = new Set(
    missing.flatMap((subject) => subject.split('.').map((_, k, all) => all.slice(0, k).join('.'))),
  )
  for (const struct of tops) {
    for (const [path, field] of paths(struct, struct, '')) {
      if (grown.has(field.type.slice('struct:'.length))) grown.add(`${struct}.${path}`)
    }
  }
  return grown
}
