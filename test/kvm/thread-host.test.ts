// A vCPU's thread as the host sees it: its name, id, CPUs, priority and CPU time.

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { getPriority } from 'node:os'
import { expect, test } from 'vitest'
import { createGuest, HALT, SPIN } from '../helpers/guest.js'
import { codeOf } from '../helpers/thrown.js'
import { waitUntil } from '../helpers/wait-until.js'

const status = (tid: number) => readFileSync(`/proc/self/task/${tid}/status`, 'utf8')
const field = (tid: number, name: string) =>
  new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status(tid))?.[1]

test('is there and named as soon as start() returns', async () => {
  using guest = createGuest(SPIN)
  for (let round = 0; round < 20; round++) {
    guest.vcpu.start()
    const { tid } = guest.vcpu
    expect(tid).toBeGreaterThan(0)
    expect(field(tid!, 'Name')).toBe('kvm-vcpu-0')
    await guest.vcpu.stop()
    expect(guest.vcpu.tid).toBeUndefined()
  }
})

test('runs where it is told', async () => {
  using guest = createGuest(SPIN)
  const { vcpu } = guest
  vcpu.start()
  const { tid } = vcpu
  vcpu.setAffinity([0])
  expect(field(tid!, 'Cpus_allowed_list')).toBe('0')
  expect(field(process.pid, 'Cpus_allowed_list')).not.toBe('')
  expect(codeOf(() => vcpu.setAffinity([]))).toBe('EINVAL')
  expect(codeOf(() => vcpu.setAffinity([-1]))).toBe('ERR_OUT_OF_RANGE')
  expect(codeOf(() => vcpu.setAffinity([8192]))).toBe('ERR_OUT_OF_RANGE')
  await vcpu.stop()
  expect(codeOf(() => vcpu.setAffinity([0]))).toBe('ESRCH')
})

test('has a priority of its own', async () => {
  using guest = createGuest(SPIN)
  const { vcpu } = guest
  const before = getPriority(process.pid)
  vcpu.start()
  vcpu.setNice(19)
  expect(getPriority(vcpu.tid!)).toBe(19)
  expect(getPriority(process.pid)).toBe(before)
  vcpu.setScheduler({ policy: 'batch' })
  expect(readFileSync(`/proc/self/task/${vcpu.tid}/sched`, 'utf8')).toMatch(/^policy\s*:\s*3$/m)
  expect(codeOf(() => vcpu.setScheduler({ policy: 'fifo', priority: 0 }))).toBe('EINVAL')
  expect(codeOf(() => vcpu.setScheduler({ policy: 'best' as never }))).toBe('ERR_INVALID_ARG_TYPE')
  expect(codeOf(() => vcpu.setNice(20))).toBe('ERR_OUT_OF_RANGE')
  await vcpu.stop()
  expect(codeOf(() => vcpu.setNice(0))).toBe('ESRCH')
})

test('counts the CPU time it uses', async () => {
  using guest = createGuest(SPIN)
  const { vcpu } = guest
  expect(vcpu.cpuTimeNs).toBe(0)
  vcpu.start()
  await waitUntil(() => vcpu.cpuTimeNs > 5_000_000)
  await vcpu.pause()
  const used = vcpu.cpuTimeNs
  await new Promise((resolve) => setTimeout(resolve, 20))
  expect(vcpu.cpuTimeNs - used).toBeLessThan(5_000_000)
  await vcpu.stop()
})

test('64 of them that halt use next to nothing', async () => {
  const guests = Array.from({ length: 64 }, () => createGuest(HALT, { irqchip: true }))
  const vcpus = guests.map(({ vcpu }) => vcpu)
  for (const vcpu of vcpus) vcpu.start()
  await waitUntil(() => vcpus.every((vcpu) => field(vcpu.tid!, 'State')?.startsWith('S')))
  const used = () => vcpus.reduce((sum, vcpu) => sum + vcpu.cpuTimeNs, 0)
  const before = used()
  await new Promise((resolve) => setTimeout(resolve, 1000))
  expect(used() - before).toBeLessThan(5_000_000) // of 1 s: 0.5 %
  await Promise.all(vcpus.map((vcpu) => vcpu.stop()))
  for (const guest of guests) guest.close()
})

test('leaves no trace of the kick signal in child processes', async () => {
  using guest = createGuest(SPIN)
  guest.vcpu.start()
  await guest.vcpu.pause()
  // A sanitizer's library would catch signals of its own there.
  const env = { ...process.env, LD_PRELOAD: '' }
  const child = execFileSync('cat', ['/proc/self/status'], { env, encoding: 'utf8' })
  expect(child).toMatch(/^SigBlk:\s*0+$/m)
  expect(child).toMatch(/^SigCgt:\s*0+$/m)
  await guest.vcpu.stop()
})
