// `node-kvm run --stats` and `--trace`: what the guest's exits cost, told at the end.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { echoKernel } from '../helpers/small-kernels.js'

const command = join(import.meta.dirname, '..', '..', 'lib', 'cli', 'main.cjs')
const folder = mkdtempSync(join(tmpdir(), 'node-kvm-stats-'))
const kernel = join(folder, 'echo.elf')
const trace = join(folder, 'trace.json')

beforeAll(() => writeFileSync(kernel, echoKernel))
afterAll(() => rmSync(folder, { recursive: true }))

test('report the exits of each vCPU, and leave the output alone', () => {
  const args = [command, 'run', '--kernel', kernel, '--memory', '16M', '--stats', '--trace', trace]
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    input: 'hello q',
    encoding: 'utf8',
  })
  expect([status, stdout]).toEqual([0, '>hello q'])
  expect(stderr).toMatch(/^vCPU {2}exit +count {2}native {2}guest ms {2}handler ms/m)
  expect(stderr).toMatch(/^ +0 {2}io +\d+ +\d+ +\d+\.\d +\d+\.\d +\d+\.\d$/m)
  const { traceEvents } = JSON.parse(readFileSync(trace, 'utf8'))
  const ports = traceEvents.filter(({ name }: { name: string }) => name === 'io')
  expect(ports.some(({ args }: { args: { address: number } }) => args.address === 0x3f8)).toBe(true)
})
