// Power cuts, as far as a process can be cut off: it is killed at a random point of writing to a disk, and
// what it said was flushed is there. NODE_KVM_KILLS sets how often; 50 take a minute.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, expect, test } from 'vitest'
import { Dice } from '../helpers/dice.js'

const KILLS = Number(process.env.NODE_KVM_KILLS ?? 4)
const BLOCK = 4096
const BLOCKS = 64
const root = join(import.meta.dirname, '..', '..')
const folder = mkdtempSync(join(tmpdir(), 'node-kvm-disk-kill-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** Writes until the kill. @returns What was said to be flushed, in order. */
async function writeUntilKilled(image: string, seed: number, afterMs: number): Promise<number[][]> {
  const script = join('test', 'helpers', 'disk-writer.ts')
  const child = spawn(process.execPath, ['--import', 'tsx', script, image, `${seed}`], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let said = ''
  child.stdout.on('data', (chunk) => {
    said += chunk
  })
  const ended = once(child, 'close')
  await Promise.race([once(child.stdout, 'data'), ended])
  await sleep(afterMs)
  child.kill('SIGKILL')
  expect(await ended).toEqual([null, 'SIGKILL'])
  const lines = said.split('\n').slice(0, -1)
  return lines.map((line) => line.split(' ').map(Number))
}

test(`what was flushed is there after each of ${KILLS} kills`, {
  timeout: 60_000 + KILLS * 20_000,
}, async () => {
  const dice = new Dice(8)
  for (let kill = 0; kill < KILLS; kill++) {
    const image = join(folder, `${kill}.img`)
    writeFileSync(image, Buffer.alloc(BLOCK * BLOCKS))
    const flushed = await writeUntilKilled(image, kill, dice.below(100))
    expect(flushed.length).toBeGreaterThan(0)
    const bytes = readFileSync(image)
    const last = new Map<number, number>()
    for (const [round, ...blocks] of flushed) for (const block of blocks) last.set(block, round!)
    for (const [block, round] of last) {
      const words = new Uint32Array(bytes.buffer, bytes.byteOffset + block * BLOCK, BLOCK / 4)
      // What came after the last flush may be there, and in part.
      const next = flushed.length + 1
      const allowed = words.every((word) => word === round || word === next)
      expect(allowed, `block ${block} of kill ${kill}`).toBe(true)
    }
  }
})
