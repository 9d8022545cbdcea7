import { expect, test } from 'vitest'
import { WorkingSet } from '../../src/core/memory/working-set.js'

const PAGE = 4096

test('what was used in the last intervals', () => {
  const set = new WorkingSet()
  set.add([
    { gpa: 0, size: 2 * PAGE },
    { gpa: 8 * PAGE, size: PAGE },
  ])
  set.add([{ gpa: PAGE, size: 2 * PAGE }])
  set.add([])
  expect(set.intervals).toBe(3)
  expect(set.size()).toBe(4 * PAGE)
  expect(set.ranges()).toEqual([
    { gpa: 0, size: 3 * PAGE },
    { gpa: 8 * PAGE, size: PAGE },
  ])
  expect(set.ranges(2)).toEqual([{ gpa: PAGE, size: 2 * PAGE }])
  expect(set.size(1)).toBe(0)
  expect(set.size(0)).toBe(0)
  expect(set.idle(2)).toBe(2 * PAGE)
})

test('intervals that there were not', () => {
  const set = new WorkingSet()
  expect(() => set.size(1)).toThrow(/intervals/)
  expect(() => set.add([{ gpa: -1, size: PAGE }])).toThrow(/gpa/)
})
