// @ts-check
// Takes the emulated machine down when a guest runs in it for the first time.
import { existsSync, writeFileSync } from 'node:fs'

const MARK = '/lab/out/died'

/** @param {import('../../../lib/index.js').Machine} machine */
export async function whileRunning(machine) {
  if (existsSync(MARK)) return
  await new Promise((resolve) => machine.serial.once('data', resolve))
  writeFileSync(MARK, '')
  writeFileSync('/proc/sysrq-trigger', 'c')
}
