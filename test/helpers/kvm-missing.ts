import { existsSync } from 'node:fs'
import { explainOpenError } from '../../src/core/host/open-error.js'

const DEVICE = '/dev/kvm'

/** Why this machine has no KVM, in the library's words; undefined where it has, whether or not it works. */
export const kvmMissing = existsSync(DEVICE) ? undefined : explainOpenError('ENOENT', DEVICE)
