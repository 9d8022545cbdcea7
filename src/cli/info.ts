// `node-kvm info`: the host report, as text or JSON.

import { parseArgs } from 'node:util'
import { hostReport, hostReportToJson } from '../core/host/host-report.js'
import { formatHostReport } from './host-text.js'
import { standardOutput } from './standard-output.js'

/** Help for `node-kvm info`. */
export const usage = `Usage: node-kvm info [options]

Reports what KVM is and can do on this host; when it cannot be used, why not and
what to do about it.

      --json          one JSON object (TypeScript: HostReport; 64-bit values are
                      strings such as "0x1f")
      --device FILE   the device file (default: /dev/kvm)
      --no-guest      do not run the small guest that finds out which modes of
                      the processor are emulated

The exit status is 0 when KVM can be used and 1 when it cannot.`

/** Runs the command; gives the exit status. */
export function run(args: string[]): number {
  const { values } = parseArgs({
    args,
    options: {
      json: { type: 'boolean' },
      device: { type: 'string', default: '/dev/kvm' },
      'no-guest': { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) {
    standardOutput().write(`${usage}\n`)
    return 0
  }
  const report = hostReport({ path: values.device, probeGuest: !values['no-guest'] })
  const text = values.json ? hostReportToJson(report) : formatHostReport(report)
  standardOutput().write(`${text}\n`)
  return report.available ? 0 : 1
}
