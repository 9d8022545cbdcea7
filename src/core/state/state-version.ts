// The check of saved states: they may come from another version of this library, or from a stranger.

import { invalidArgValue } from '../../uapi/index.js'
import { object } from '../validate.js'

/** Throws unless `state` is an object of this version. */
export function checkVersion(state: { version: number }, version: number): void {
  if (object(state, 'state').version === version) return
  throw invalidArgValue('state.version', `is not ${version}, the one that this library reads`)
}
