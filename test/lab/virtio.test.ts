// Debian's kernel with its own drivers on our virtio devices, over PCI and over MMIO. One stay in the lab
// for all guests: a guest of each kind of device, with all its checks.

import { beforeAll, expect, test } from 'vitest'
import { runLabGuests } from '../../lab/guests.mjs'

/** Reads from each device in turn, and says what its driver agreed on. */
const RNG_SCRIPT = `
cd /sys/class/misc/hw_random
for device in $(cat rng_available); do
  echo "$device" >rng_current
  bytes=$(dd if=/dev/hwrng bs=4096 count=2 2>/dev/null | od -An -tx1 | tr -s ' ' '\\n' | sort | uniq -c | wc -l)
  echo "$device gives $bytes different bytes"
done
for device in /sys/bus/virtio/devices/*; do
  echo "$(basename $device) on $(basename $(dirname $(readlink -f $device))): $(cut -c29-36 $device/features) $(cat $device/status)"
done
grep virtio /proc/interrupts
`

const guests = {
  rng: {
    host: 'test/lab/hosts/rng.mjs',
    script: RNG_SCRIPT,
    modules: ['virtio_pci', 'virtio_mmio', 'virtio_rng'],
  },
}

let results: ReturnType<typeof runLabGuests<keyof typeof guests>>
beforeAll(() => {
  results = runLabGuests(guests)
}, 900_000)

test.each(Object.keys(guests) as (keyof typeof guests)[])(
  '%s: both sides come to their end',
  (name) => {
    expect(results[name].output).toContain('init: ended with status 0')
    expect(results[name].status).toBe(0)
  },
)

test('entropy over PCI and MMIO, from split and packed rings', () => {
  const { output } = results.rng
  const devices = [...output.matchAll(/^(virtio_rng\.\d) gives (\d+) different bytes$/gm)]
  expect(devices.map(([, name]) => name)).toHaveLength(4)
  // 8192 random bytes miss a value once in 10^11 reads.
  for (const [, , count] of devices) expect(Number(count)).toBeGreaterThan(250)
})
