// The exits of vCPUs as a table for people.

import type { Vcpu } from '../core/vcpu.js'

/** `native`: of the count, how many C++ has answered on the vCPU's own thread. */
const HEAD = ['vCPU', 'exit', 'count', 'native', 'guest ms', 'handler ms', 'handler us each']

/** One line for each vCPU and type of exit, most frequent first. */
export function exitTable(vcpus: readonly Pick<Vcpu, 'id' | 'statistics'>[]): string {
  const rows = vcpus.flatMap(({ id, statistics }) =>
    statistics.types.map(({ type, count, answered, guestNs, handlerNs }) => [
      ...[String(id), type, String(count), String(answered)],
      ...[(guestNs / 1e6).toFixed(1), (handlerNs / 1e6).toFixed(1)],
      (handlerNs / 1e3 / count).toFixed(1),
    ]),
  )
  const lines = [HEAD, ...rows]
  const widths = HEAD.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)))
  const isText = (column: number) => column === 1
  return lines
    .map((line) =>
      line
        .map((cell, column) =>
          isText(column) ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}
