// A machine's timeline: what a kernel prints and touches becomes stages; text and picture.

import { expect, test } from 'vitest'
import { imageProgress } from '../../src/cli/image-progress.js'
import { timelineSvg, timelineText } from '../../src/cli/timeline.js'
import { Timeline } from '../../src/machine/timeline.js'

const names = ({ marks }: Timeline) => marks.map(({ name }) => name)

function print(timeline: Timeline, text: string): void {
  for (const byte of Buffer.from(text)) timeline.onByte(byte)
}

test('what a kernel prints becomes stages, each once', () => {
  const timeline = new Timeline()
  print(timeline, '[    0.000000] Linux version 6.1\r\n[    0.1] nothing\r\n')
  print(timeline, '[    1.0] Run /init as init process\r\n[    1.1] Run /init as init process\r\nx')
  expect(names(timeline)).toEqual([
    'process start',
    'first output',
    'kernel: first message',
    'init',
  ])
})

test('a line without end is cut, and the next one is heard', () => {
  const timeline = new Timeline()
  print(timeline, `${'x'.repeat(100_000)}\nRun /sbin/init as init process\n`)
  expect(names(timeline)).toEqual(['process start', 'first output', 'init'])
})

test('first accesses to some ports become stages', () => {
  const timeline = new Timeline()
  for (const port of [0x80, 0x71, 0x71, 0xcfc, 0x71]) timeline.onPort(port)
  expect(names(timeline)).toEqual([
    'process start',
    'kernel: reads the clock',
    'kernel: sets up PCI',
  ])
})

const marks = [
  { name: 'process start', atMs: 0 },
  { name: 'images read', atMs: 12.34 },
  { name: 'a <b> & c', atMs: 100 },
]

test('as text: when, how long after the one before, what', () => {
  expect(timelineText(marks).split('\n')).toEqual([
    '     at ms   after ms  what',
    '       0.0             process start',
    '      12.3       12.3  images read',
    '     100.0       87.7  a <b> & c',
  ])
})

test('as a picture: well-formed, a bar for each mark, from the one before', () => {
  const svg = timelineSvg(marks)
  const bars = [...svg.matchAll(/<rect x="([\d.]+)" y="\d+" width="([\d.]+)"/g)]
  expect(bars.length).toBe(3)
  const [first, second, third] = bars.map(([, x, width]) => [Number(x), Number(width)] as const)
  expect(second![0]).toBe(first![0])
  expect(third![0]).toBeCloseTo(second![0] + second![1], 0)
  expect(svg).toContain('a &lt;b&gt; &amp; c')
  const open = [...svg.matchAll(/<(\w+)[^>]*[^/]>/g)].length
  expect([...svg.matchAll(/<\/\w+>/g)].length).toBe(open)
})

test('progress is drawn when it takes long, and is gone in the end', () => {
  let now = 0
  let screen = ''
  const report = imageProgress({ write: (text) => (screen += text) }, () => now)
  report({ path: '/boot/vmlinuz', loaded: 0, total: 100 })
  expect(screen).toBe('')
  now = 1000
  report({ path: '/boot/vmlinuz', loaded: 50, total: 100 })
  report({ path: '/boot/initrd', loaded: 1, total: 300 })
  expect(screen).toBe('\r\x1b[Kvmlinuz 50 %\r\x1b[Kvmlinuz 50 %  initrd 0 %')
  report({ path: '/boot/vmlinuz', loaded: 100, total: 100 })
  screen = ''
  report({ path: '/boot/initrd', loaded: 300, total: 300 })
  expect(screen).toBe('\r\x1b[K')
})
