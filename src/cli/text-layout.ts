// Plain text for terminals: titled groups of aligned rows, long values wrapped under themselves.

/** Columns that no line exceeds, unless a single word does. */
export const TEXT_WIDTH = 96

/** A label and its value; a list is wrapped between its items. */
export type TextRow = readonly [label: string, value: string | readonly string[]]

const INDENT = 2
const GAP = 2
const MAX_LABEL = 34

/** Lays out a group: a title, then rows with their values in one column. */
export function textGroup(title: string, rows: readonly TextRow[]): string {
  const widest = Math.max(0, ...rows.map(([label]) => label.length).filter((n) => n <= MAX_LABEL))
  const column = INDENT + widest + GAP
  const lines = rows.flatMap(([label, value]) => textRow(label, value, column))
  return [title, ...lines].join('\n')
}

function textRow(label: string, value: TextRow[1], column: number): string[] {
  const words = typeof value === 'string' ? value.split(' ') : value
  const [first = '-', ...rest] = wrapWords(words, TEXT_WIDTH - column)
  const head = ' '.repeat(INDENT) + label
  // A label wider than its column pushes its own value, and no other, to the right.
  const start = head.length + GAP <= column ? head.padEnd(column) : head + ' '.repeat(GAP)
  return [start + first, ...rest.map((line) => ' '.repeat(column) + line)]
}

/** Fills lines of at most `width` columns with words, a blank between two. */
export function wrapWords(words: readonly string[], width: number): string[] {
  const lines: string[] = []
  for (const word of words) {
    const last = lines.at(-1)
    if (last !== undefined && last.length + 1 + word.length <= width) {
      lines[lines.length - 1] = `${last} ${word}`
    } else lines.push(word)
  }
  return lines
}

/** Bytes with the largest binary unit that divides them, or one decimal from 10 MiB on. */
export function textBytes(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  while (unit < units.length - 1 && value >= 1024 && (value % 1024 === 0 || bytes > 10 * 2 ** 20)) {
    value /= 1024
    unit += 1
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[unit]}`
}
