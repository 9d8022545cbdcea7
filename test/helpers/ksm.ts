// The host's same-page merging, turned on for as long as a test needs it.

import { accessSync, constants, readFileSync, writeFileSync } from 'node:fs'

const FOLDER = '/sys/kernel/mm/ksm'
const SETTINGS = ['sleep_millisecs', 'pages_to_scan', 'run'] as const

export type KsmSettings = Record<(typeof SETTINGS)[number], string>

/** The host's settings; undefined where it has no KSM. */
export function ksmSettings(): KsmSettings | undefined {
  try {
    const read = (name: string) => readFileSync(`${FOLDER}/${name}`, 'latin1').trim()
    return Object.fromEntries(SETTINGS.map((name) => [name, read(name)])) as KsmSettings
  } catch {
    return undefined
  }
}

/** Why KSM cannot be turned on here; undefined when it can. */
export function ksmMissing(): string | undefined {
  if (ksmSettings() === undefined) return 'the host has no KSM'
  try {
    accessSync(`${FOLDER}/run`, constants.W_OK)
    return undefined
  } catch {
    return `${FOLDER}/run is not writable`
  }
}

function apply(settings: KsmSettings): void {
  for (const name of SETTINGS) writeFileSync(`${FOLDER}/${name}`, settings[name])
}

/** Stops the scanning; what is merged stays so. */
export const pauseKsm = () => writeFileSync(`${FOLDER}/run`, '0')

/** Runs `body` while the host merges pages as fast as it can; the settings are then as before. */
export async function withKsm(body: () => Promise<void>): Promise<void> {
  const before = ksmSettings()!
  const restore = () => apply(before)
  process.once('exit', restore)
  try {
    apply({ run: '1', pages_to_scan: '5000', sleep_millisecs: '5' })
    await body()
  } finally {
    restore()
    process.off('exit', restore)
  }
}
