// @ts-check
// The kernel's own count of what KVM does: events of its tracing, for measurements in the lab. Needs root.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const TRACING = '/sys/kernel/tracing'

/**
 * A buffer of the kernel's tracing for events of KVM.
 *
 * @param {string} name
 * @param {string} event
 * @param {string} trigger
 */
export function openTrace(name, event, trigger) {
  if (!existsSync(join(TRACING, 'instances'))) {
    spawnSync('mount', ['-t', 'tracefs', 'tracefs', TRACING])
  }
  const folder = join(TRACING, 'instances', name)
  const triggers = join(folder, 'events/kvm', event, 'trigger')
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'trace_clock'), 'mono')
  writeFileSync(triggers, trigger)
  writeFileSync(join(folder, 'events/kvm', event, 'enable'), '1')
  return {
    /** @param {string} file */
    read: (file) => readFileSync(join(folder, file), 'utf8'),
    close() {
      writeFileSync(join(folder, 'events/kvm', event, 'enable'), '0')
      writeFileSync(triggers, `!${trigger}`)
      rmdirSync(folder)
    },
  }
}

/** Counts the exits to user space of all guests. */
export function countExits() {
  const trace = openTrace('exits', 'kvm_userspace_exit', 'hist:keys=reason')
  return {
    get count() {
      return Number(/Hits: (\d+)/.exec(trace.read('events/kvm/kvm_userspace_exit/hist'))?.[1])
    },
    close: trace.close,
  }
}
