// A machine's timeline for people: as text, and as a picture (SVG).

import type { TimelineMark } from '../machine/timeline.js'

const ms = (value: number): string => value.toFixed(1)

/** A line for each mark: when it was, how long after the one before, what. */
export function timelineText(marks: readonly TimelineMark[]): string {
  const head = ['at ms', 'after ms', 'what'] as const
  const rows = marks.map(({ name, atMs }, i) => {
    const before = marks[i - 1]?.atMs
    return [ms(atMs), before === undefined ? '' : ms(atMs - before), name] as const
  })
  return [head, ...rows]
    .map(([at, after, what]) => `${at.padStart(10)}  ${after.padStart(9)}  ${what}`)
    .join('\n')
}

const WIDTH = 960
const ROW = 22
const LABELS = 240
const MARGIN = 12
const TIMES = 90
const TICKS = 5

/** A bar for each mark, from the one before to its own moment, under a scale in milliseconds. */
export function timelineSvg(marks: readonly TimelineMark[]): string {
  const end = Math.max(1, ...marks.map(({ atMs }) => atMs))
  const x = (atMs: number) => LABELS + (atMs / end) * (WIDTH - LABELS - TIMES)
  const height = MARGIN * 2 + ROW * (marks.length + 1)
  const scale = Array.from({ length: TICKS + 1 }, (_, i) => {
    const at = (end * i) / TICKS
    return [
      `<line x1="${ms(x(at))}" y1="${ROW}" x2="${ms(x(at))}" y2="${height - MARGIN}" stroke="#ddd"/>`,
      `<text x="${ms(x(at))}" y="${MARGIN}" text-anchor="middle">${Math.round(at)} ms</text>`,
    ].join('')
  })
  const bars = marks.map(({ name, atMs }, i) => {
    const from = x(marks[i - 1]?.atMs ?? 0)
    const top = MARGIN + ROW * (i + 1)
    const width = Math.max(1, x(atMs) - from)
    return [
      `<text x="${LABELS - MARGIN}" y="${top + 12}" text-anchor="end">${escapeXml(name)}</text>`,
      `<rect x="${ms(from)}" y="${top}" width="${ms(width)}" height="${ROW - 8}" fill="#3b7dd8"/>`,
      `<text x="${ms(from + width + 4)}" y="${top + 12}">${ms(atMs)}</text>`,
    ].join('')
  })
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
    ...scale,
    ...bars,
    '</svg>\n',
  ].join('\n')
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;' }
const escapeXml = (text: string): string => text.replace(/[&<>]/g, (char) => ENTITIES[char]!)
