// The committed output is what the generator makes, where the headers it came from are at hand.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))
const headers = process.env.NODE_KVM_HEADERS

it('npm run generate gives the committed files', ({ skip }) => {
  if (!headers) return skip('NODE_KVM_HEADERS names no kernel headers')
  const out = mkdtempSync(join(tmpdir(), 'uapi-generate-'))
  try {
    const main = join(root, 'tools/generate/main.mjs')
    execFileSync(process.execPath, [main, '--headers', headers, '--out', out])
    const names = readdirSync(join(root, 'src/uapi/generated'))
    expect(readdirSync(join(out, 'src/uapi/generated'))).toEqual(names)
    const files = [...names.map((name) => `src/uapi/generated/${name}`), 'native/requests.inc']
    for (const file of files) {
      expect(readFileSync(join(out, file), 'utf8'), file).toBe(
        readFileSync(join(root, file), 'utf8'),
      )
    }
  } finally {
    rmSync(out, { recursive: true, force: true })
  }
})
