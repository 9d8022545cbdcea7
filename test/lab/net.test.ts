// Debian's kernel with its own network driver: over PCI and MMIO, on TAPs, on a switch with a second
// machine, and behind passt. One guest for all of it.

import { beforeAll, expect, test } from 'vitest'
import { runLabGuests } from '../../lab/guests.mjs'
import { ensureProgram } from '../../lab/setup.mjs'

const SCRIPT = `
name() { grep -l "52:54:00:00:00:0$1" /sys/class/net/*/address | cut -d/ -f5; }
up() { ip addr add "$2" dev "$(name $1)"; ip link set "$(name $1)" up; }
hash() { sha256sum | cut -d' ' -f1; }

if grep -q role=second /proc/cmdline; then
  up 5 10.0.3.2/24
  while :; do echo "the second machine" | nc -l -p 7000; done
fi

up 1 10.0.1.2/24
up 2 10.0.2.2/24
up 3 10.0.3.1/24
up 4 10.0.4.2/24
for i in 1 2 3 4; do
  device=$(readlink -f /sys/class/net/$(name $i)/device)
  echo "device $i: $(cat $device/features) on $(basename $(dirname $device)), mtu $(cat /sys/class/net/$(name $i)/mtu)"
done
echo "queues: $(ls -d /sys/class/net/$(name 1)/queues/rx-* | wc -l)"

mkdir /tmp/web
echo "from the guest" >/tmp/web/hello
httpd -p 80 -h /tmp/web
# The host fetches the file before it ends the second connection: nc sends a KB at a time, httpd large segments.
nc 10.0.1.1 5001 </dev/null >/tmp/web/file
echo "pci: $(hash </tmp/web/file)"
nc 10.0.1.1 5002 </dev/null
nc 10.0.2.1 5003 </dev/null >/tmp/web/file
echo "mmio: $(hash </tmp/web/file)"
nc 10.0.2.1 5004 </dev/null
rm /tmp/web/file

for i in 1 2 3 4 5 6 7 8 9 10; do
  text=$(printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 10 nc -w 5 10.0.4.1 8080 | tail -n 1)
  [ -n "$text" ] && break
  sleep 1
done
echo "passt: $text"
for i in $(seq 60); do
  text=$(timeout 5 nc -w 2 10.0.3.2 7000 </dev/null) && [ -n "$text" ] && break
  sleep 1
done
echo "switch: $text"
echo 'take tap1 away'
until [ "$(cat /sys/class/net/$(name 2)/carrier)" = 0 ]; do sleep 0.2; done
echo "tap1 is gone, tap0 brings $(nc 10.0.1.1 5005 </dev/null | wc -c) bytes"
sleep 2
grep virtio /proc/interrupts
`

let output = ''
let status = -1
beforeAll(() => {
  ensureProgram('passt', ['passt'])
  ensureProgram('ip', ['iproute2'])
  ensureProgram('tcpdump', ['tcpdump'])
  const modules = ['virtio_pci', 'virtio_mmio', 'virtio_net']
  const guest = { host: 'test/lab/hosts/net.mjs', script: SCRIPT, modules, cpus: 2 }
  ;({ output, status } = runLabGuests({ net: { ...guest, timeout: 600 } }).net)
}, 900_000)

const said = (pattern: RegExp): string => pattern.exec(output)?.[1] ?? `nothing, but:\n${output}`

test('both sides come to their end', () => {
  expect(output).toContain('init: ended with status 0')
  expect(status).toBe(0)
})

test.each([
  ['pci', 5002],
  ['mmio', 5004],
])('100 MB of TCP both ways through a TAP, over %s', (transport, port) => {
  const hash = said(/^host: the file is (\w+)$/m)
  expect(said(new RegExp(`^${transport}: (\\w+)$`, 'm'))).toBe(hash)
  expect(said(new RegExp(`^host: port ${port} got 104857600 bytes .*: (\\w+)$`, 'm'))).toBe(hash)
})

test('offloads, merged buffers and queue pairs are agreed on', () => {
  // Bit i of the features is character i.
  const pci = said(/^device 1: ([01]+) on /m)
  for (const bit of [0, 1, 3, 5, 7, 8, 11, 12, 15, 16, 17, 22, 32])
    expect(pci[bit], `${bit}`).toBe('1')
  const mmio = said(/^device 2: ([01]+) on /m)
  for (const bit of [0, 1, 7, 11, 15, 32, 34]) expect(mmio[bit], `${bit}`).toBe('1')
  expect(said(/^queues: (\d+)$/m)).toBe('2')
})

// No frame of this MTU is longer than 1514 bytes, so nobody has cut these.
test.each(['tap0', 'tap1'])('segments of up to 64 KiB pass both ways through %s', (tap) => {
  expect(output).toContain(`host: ${tap}: 1000 segments in`)
  expect(output).toContain(`host: ${tap}: 1000 segments out`)
})

test('through passt both ways', () => {
  expect(said(/^passt: (.*)$/m)).toBe('from the host, by passt')
  expect(said(/^host: from the guest, by passt: (.*)$/m)).toBe('from the guest')
})

test('a TAP that vanishes is a link that goes down, and the other card goes on', () => {
  expect(said(/^tap1 is gone, tap0 brings (\d+) bytes$/m)).toBe(`${2 ** 18}`)
})

test('two machines on a switch, and a capture of what passed', () => {
  expect(said(/^switch: (.*)$/m)).toBe('the second machine')
  expect(said(/^host: the capture is whole: .* types (.*)$/m)).toContain('800 806')
  const frames = said(/^host: the capture is whole: (\d+) frames/m)
  const [, read, arp, tcp] = /^host: tcpdump reads (\d+) frames, (\d+) of ARP, (\d+) of TCP$/m.exec(
    output,
  )!
  expect(read).toBe(frames)
  expect(Number(arp)).toBeGreaterThanOrEqual(2)
  // A connection is opened, used and closed.
  expect(Number(tcp)).toBeGreaterThanOrEqual(6)
})
