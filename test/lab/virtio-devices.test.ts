// Debian's kernel with its own drivers on a console, a balloon and a socket device, over PCI and over MMIO.

import { beforeAll, describe, expect, test } from 'vitest'
import { runLabGuests } from '../../lab/guests.mjs'
import { compiled } from '../helpers/compiled.js'

/** A shell on the port of that name, opened once for both ways. */
const SHELL_SCRIPT = `
until grep -qx shell /sys/class/virtio-ports/*/name 2>/dev/null; do sleep 0.1; done
name=$(grep -lx shell /sys/class/virtio-ports/*/name)
name=\${name%/name}
sh <>/dev/\${name##*/} >&0 2>&0
`
const DEVICE_MODULES = ['virtio_console', 'virtio_balloon', 'vmw_vsock_virtio_transport']
const deviceGuest = (transport: 'pci' | 'mmio') => ({
  host: `test/lab/hosts/devices-${transport}.mjs`,
  script: SHELL_SCRIPT,
  modules: [`virtio_${transport}`, ...DEVICE_MODULES],
  files: { 'bin/vsock': compiled('test/lab/programs/vsock.c') },
  memory: '256M',
})

const guests = {
  devicesPci: deviceGuest('pci'),
  devicesMmio: deviceGuest('mmio'),
}
type Name = keyof typeof guests

let results: ReturnType<typeof runLabGuests<Name>>
beforeAll(() => {
  results = runLabGuests(guests)
}, 900_000)

describe.each(Object.keys(guests) as Name[])('%s', (guest) => {
  test('both sides come to their end', () => {
    expect(results[guest].output).toContain('init: ended with status 0')
    expect(results[guest].status).toBe(0)
  })

  /** What the host said of something. */
  const of = (name: string) =>
    new RegExp(`^host: ${name}:? (.*)$`, 'm').exec(results[guest].output)?.[1]
  const numbers = (name: string) => (of(name)?.match(/[\d.]+/g) ?? []).map(Number)

  test('a console talks both ways and has the size that it is given', () => {
    expect(of('hvc0')).toBe('got typed on hvc0')
    expect([of('size'), of('resized')]).toEqual(['24 80', '43 132'])
  })

  test('a named port carries a MiB both ways, and its end', () => {
    expect(
      [...results[guest].output.matchAll(/^host: echo (.*)$/gm)].map(([, what]) => what),
    ).toEqual(['true', 'ended'])
  })

  test('ports come and go while the guest runs', () => {
    expect([of('late'), of('again')]).toEqual(['hello from late', 'hello from again'])
    expect(of('numbers')).toBe('3 3')
  })

  test('the guest tells of its memory, and which of it is free', () => {
    expect(of('statistics')).toBe('true')
    expect(numbers('hints')[0]).toBeGreaterThan(16)
  })

  test('free pages that the guest reports go back to the host', () => {
    const [less, reported] = numbers('reporting')
    expect(less).toBeGreaterThan(80)
    expect(reported).toBeGreaterThan(80)
  })

  test('the balloon takes what it is to take, and gives it back when the guest has no other', () => {
    expect(numbers('inflated')).toEqual([100, 100])
    expect(of('oom')).toBe('150+0 records out')
    expect(numbers('left')[0]).toBeLessThan(100)
    expect(of('deflated')).toBe('0')
  })

  test('sockets carry bytes to the host and to the guest, and back', () => {
    let sum = 0
    for (let i = 0; i < 1_000_000; i++) sum += i & 0xff
    expect(of('to the host')).toBe(`1000000 bytes back, sum ${sum}`)
    expect(of('to the guest')).toBe('true')
  })

  test('sockets are refused where nobody listens', () => {
    expect(of('to nobody')).toBe('connect: Connection reset by peer')
    expect(of('to nobody there')).toBe('ECONNREFUSED')
  })
})
