// Two guests with the same contents share them, until one writes.

import { readFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { GuestMemory, ksmStatistics } from '../../src/index.js'
import { ksmMissing, ksmSettings, pauseKsm, withKsm } from '../helpers/ksm.js'
import { FIRST_SLOT, FREE, Writers } from '../helpers/writers.js'

const PAGE = 0x1000
const PAGES = 512

/** A guest whose pages differ from each other; two with the same seed are equal. */
function guestWith(seed: number): { guest: Writers; memory: GuestMemory } {
  const memory = GuestMemory.create([{ gpa: FREE, size: PAGES * PAGE }], {
    backing: 'anonymous',
    mergeable: true,
    thp: 'never',
  })
  const words = new Uint32Array((PAGES * PAGE) / 4)
  let state = seed
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    words[i] = state
  }
  memory.write(FREE, new Uint8Array(words.buffer))
  const guest = new Writers()
  guest.vm.mapMemory(memory, { firstSlot: FIRST_SLOT })
  return { guest, memory }
}

const close = ({ guest, memory }: ReturnType<typeof guestWith>) => {
  guest.close()
  memory.close()
}

test('are merged and counted; a write unmerges its page, the other guest keeps it', {
  timeout: 90_000,
}, async (context) => {
  const missing = ksmMissing()
  if (missing !== undefined) context.skip(missing)
  const before = ksmSettings()
  const sharing = () => ksmStatistics().get('pages_sharing')!
  const sharedBefore = sharing()
  // Of this run only: equal pages of another program would be merged as well.
  const seed = process.pid * 7919 + 1
  const [first, second] = [guestWith(seed), guestWith(seed)]
  const inKsm = ({ memory }: typeof first) => memory.usage().ksm / PAGE
  // Linux 6.7 counts them by mapping, older ones only for the host as a whole.
  const counted = readFileSync('/proc/self/smaps', 'latin1').includes('\nKSM:')
  const original = first.memory.read(FREE, PAGES * PAGE)
  const page = (i: number) => original.slice(i * PAGE, (i + 1) * PAGE)
  try {
    await withKsm(async () => {
      // Guests run meanwhile: their mappings have to give way to the merged pages.
      const read = { gpa: FREE, stride: 0, count: 0, value: 0 }
      const merged = () =>
        counted ? inKsm(first) + inKsm(second) === 2 * PAGES : sharing() - sharedBefore >= PAGES
      // The merging thread has a low priority; the test's own limit ends the wait.
      while (!merged()) {
        first.guest.write(read)
        second.guest.write(read)
        await setTimeout(50)
      }
      pauseKsm()
      if (counted) expect([inKsm(first), inKsm(second)]).toEqual([PAGES, PAGES])

      first.guest.write({ gpa: FREE + 7 * PAGE, stride: PAGE, count: 3, value: 1 })
      if (counted) expect([inKsm(first), inKsm(second)]).toEqual([PAGES - 3, PAGES])
      for (const i of [7, 8, 9]) {
        expect(first.memory.read(FREE + i * PAGE, PAGE)).not.toEqual(page(i))
        expect(second.memory.read(FREE + i * PAGE, PAGE)).toEqual(page(i))
      }

      second.guest.write({ gpa: FREE + 9 * PAGE + 8, stride: PAGE, count: 2, value: 5 })
      const theirs = new DataView(page(9).buffer).getBigUint64(8, true)
      expect(second.memory.readU64(FREE + 9 * PAGE + 8)).toBe(BigInt.asUintN(64, theirs + 5n))
      expect(first.memory.readU64(FREE + 9 * PAGE + 8)).toBe(theirs)
      expect(first.memory.read(FREE + 10 * PAGE, PAGE)).toEqual(page(10))
      expect(first.memory.read(FREE, 7 * PAGE)).toEqual(original.slice(0, 7 * PAGE))
    })
  } finally {
    close(first)
    close(second)
  }
  expect(ksmSettings()).toEqual(before)
})
