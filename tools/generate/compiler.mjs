// The only place that runs a compiler. Everything is compiled as C: C++ gives an empty struct one
// byte, which moves every flexible array and changes a dozen request numbers.

import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const prologue = [
  '#include <linux/errno.h>',
  '#include <linux/kvm.h>',
  '#include <linux/kvm_para.h>',
  '#define PAGE_SIZE 4096',
  '',
].join('\n')

/** clang and a set of headers, with a scratch directory that `close` removes. */
export class Compiler {
  /** @param {string} headers The `usr/include` of an unpacked linux-libc-dev. @param {string} clang */
  constructor(headers, clang) {
    if (!existsSync(join(headers, 'linux/kvm.h'))) {
      throw new Error(`${headers} has no linux/kvm.h: give the usr/include of a linux-libc-dev`)
    }
    this.clang = clang
    // Debian keeps asm/ in a directory per architecture; `make headers_install` does not.
    const multiarch = join(headers, 'x86_64-linux-gnu')
    this.includes = [`-I${headers}`, ...(existsSync(multiarch) ? [`-I${multiarch}`] : [])]
    this.directory = mkdtempSync(join(tmpdir(), 'kvm-generate-'))
  }

  close() {
    rmSync(this.directory, { recursive: true, force: true })
  }

  /** @param {string} source */
  #write(source) {
    const path = join(this.directory, 'probe.c')
    writeFileSync(path, source)
    return path
  }

  /** @param {string[]} args */
  #run(args) {
    const target = ['--target=x86_64-linux-gnu', '-nostdinc', ...this.includes]
    return execFileSync(this.clang, [...target, ...args], {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
    })
  }

  /** Syntax tree of the headers. */
  syntaxTree() {
    const path = this.#write(prologue)
    return JSON.parse(this.#run(['-fsyntax-only', '-Xclang', '-ast-dump=json', path]))
  }

  /**
   * Every macro without parameters that the KVM headers define, in order, with its header and text.
   * @returns {{ name: string, header: string, text: string }[]}
   */
  macros() {
    const output = this.#run(['-E', '-dD', this.#write(prologue)])
    /** @type {Map<string, { name: string, header: string, text: string }>} */
    const found = new Map()
    let header = ''
    for (const line of output.split('\n')) {
      const marker = /^# \d+ "([^"]*)"/.exec(line)
      if (marker) header = /((?:linux|asm)\/kvm(?:_para)?\.h)$/.exec(marker[1])?.[1] ?? ''
      const define = /^#define ([A-Z][A-Za-z0-9_]*)(?: (.*))?$/.exec(line)
      if (define && header && define[2]) {
        found.set(define[1], { name: define[1], header, text: define[2] })
      }
    }
    return [...found.values()]
  }

  /**
   * Values of C expressions: integers as bigint with their width, strings as they are. An
   * expression that is no constant is left out.
   * @param {string[]} expressions
   * @returns {Map<string, { value: bigint | string, bits: number }>}
   */
  evaluate(expressions) {
    const valid = this.#constants(expressions)
    const lines = valid.map((text) => `  P((${text}), ${JSON.stringify(text)});`)
    const source = `${prologue}
int printf(const char *, ...);
static void integer(const char *t, int negative, unsigned long long v, int bits) {
  if (negative) printf("%s\\ti%lld\\t%d\\n", t, (long long)v, bits);
  else printf("%s\\ti%llu\\t%d\\n", t, v, bits);
}
static void string(const char *t, const char *s, unsigned long n) {
  printf("%s\\ts", t);
  for (unsigned long k = 0; k + 1 < n; k++) printf("%02x", (unsigned char)s[k]);
  printf("\\t0\\n");
}
#define IS_STRING(x) __builtin_types_compatible_p(__typeof__(&(x)[0]), char *)
#define P(x, t) _Generic((x), char *: string(t, (const char *)(__UINTPTR_TYPE__)(x), sizeof(x)), \\
  default: integer(t, _Generic((x), char *: 0, default: (x)) < 0, \\
    (unsigned long long)(x), (int)sizeof(x) * 8))
int main(void) {
${lines.join('\n')}
  return 0;
}
`
    const binary = join(this.directory, 'probe')
    const target = ['--target=x86_64-linux-gnu', '-w', ...this.includes]
    const path = this.#write(source)
    // Linked against the host's libc, whose headers are not needed and not read.
    execFileSync(this.clang, [...target, '-nostdinc', '-o', binary, path], { encoding: 'utf8' })
    const values = new Map()
    for (const line of execFileSync(binary, { encoding: 'utf8' }).split('\n')) {
      if (line === '') continue
      const [text, value, bits] = line.split('\t')
      values.set(text, {
        value: value.startsWith('s') ? fromHex(value.slice(1)) : BigInt(value.slice(1)),
        bits: Number(bits),
      })
    }
    return values
  }

  /** The expressions that compile. @param {string[]} expressions */
  #constants(expressions) {
    const head = `${prologue}void f(void) {\n`
    const first = head.split('\n').length
    const source = `${head}${expressions.map((text) => `(void)(${text});`).join('\n')}\n}\n`
    const args = [
      '--target=x86_64-linux-gnu',
      '-nostdinc',
      '-w',
      '-ferror-limit=0',
      '-fsyntax-only',
    ]
    const path = this.#write(source)
    const result = spawnSync(this.clang, [...args, ...this.includes, path], { encoding: 'utf8' })
    const bad = new Set()
    for (const match of result.stderr.matchAll(/probe\.c:(\d+):\d+: error:/g)) {
      bad.add(Number(match[1]) - first)
    }
    return expressions.filter((_, index) => !bad.has(index))
  }
}

/** @param {string} hex */
function fromHex(hex) {
  return Buffer.from(hex, 'hex').toString('latin1')
}

/** The first clang that runs. @param {string | undefined} wanted */
export function findClang(wanted) {
  const names = wanted ? [wanted] : ['clang', ...range(30, 13).map((version) => `clang-${version}`)]
  for (const name of names) {
    if (spawnSync(name, ['--version']).status === 0) return name
  }
  throw new Error(`no clang found (tried ${names.join(', ')}): install one or pass --clang`)
}

/** @param {number} from @param {number} to */
function range(from, to) {
  return Array.from({ length: from - to + 1 }, (_, index) => from - index)
}
