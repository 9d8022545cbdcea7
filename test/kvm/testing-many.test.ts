// A guest for each of many small tests, as people write them: nothing of it stays. NODE_KVM_TESTS=1000
// shows how many there can be in a minute.
import { readdirSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { asm, guest } from '../../src/testing/index.js'

const TESTS = Number(process.env.NODE_KVM_TESTS ?? 100)
const openFiles = () => readdirSync('/proc/self/fd').length
let before = 0

beforeAll(async () => {
  using g = await guest({ ring: 3 })
  g.run(asm`nop`)
  before = openFiles()
})
afterAll(() => expect(openFiles()).toBeLessThanOrEqual(before))

test.for(Array.from({ length: TESTS }, (_, i) => i))('%i times three', async (i) => {
  using g = await guest({ ring: i % 2 === 0 ? 0 : 3 })
  const { values } = g.run(asm`mov eax, ${i}; lea eax, [rax + 2 * rax]; ${g.report()}`)
  expect(values).toEqual([3 * i])
})
