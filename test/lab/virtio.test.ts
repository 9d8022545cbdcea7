// Debian's kernel with its own drivers on our virtio devices, over PCI and over MMIO. One stay in the lab
// for all guests: a guest of each kind of device, with all its checks.

import { beforeAll, describe, expect, test } from 'vitest'
import { runLabGuests } from '../../lab/guests.mjs'

/**
 * Reads from each device in turn, says what its driver agreed on, and lets the driver go and come back,
 * which resets the device and sets it up again.
 */
const RNG_SCRIPT = `
cd /sys/class/misc/hw_random
read_all() {
  for device in $(cat rng_available); do
    echo "$device" >rng_current
    bytes=$(dd if=/dev/hwrng bs=4096 count=2 2>/dev/null | od -An -tx1 | tr -s ' ' '\\n' | sort | uniq -c | wc -l)
    echo "$1 $device gives $bytes different bytes"
  done
}
read_all first
for device in /sys/bus/virtio/devices/*; do
  bus=$(basename $(readlink -f $(dirname $(readlink -f $device))/subsystem))
  echo "$(basename $device) on $bus has features $(cut -c29-36 $device/features), status $(cat $device/status)"
done
grep virtio /proc/interrupts
cd /sys/bus/virtio/drivers/virtio_rng
for device in virtio0 virtio1 virtio2 virtio3; do echo $device >unbind; done
echo "left: $(cat /sys/class/misc/hw_random/rng_available)"
for device in virtio3 virtio2 virtio1 virtio0; do echo $device >bind; done
cd /sys/class/misc/hw_random
read_all again
`

/** Two file systems, an aligned disk that grows, and one in JavaScript. */
const DISK_SCRIPT = `
mkdir -p /mnt/vda /mnt/vdd
for disk in vda vdb vdc vdd; do
  cd /sys/block/$disk
  echo "$disk: $(cat size) sectors, $(ls mq | wc -l) queues, serial '$(cat serial)', $(cat queue/write_cache)"
  echo "$disk: blocks $(cat queue/logical_block_size) $(cat queue/physical_block_size) $(cat queue/minimum_io_size) $(cat queue/optimal_io_size) $(cat alignment_offset)"
done
dd if=/dev/vdc bs=512 count=1 2>/dev/null | head -n 1
printf 'guest' | dd of=/dev/vdc conv=fsync 2>/dev/null
for disk in vda vdd; do
  mount -t ext4 -o discard /dev/$disk /mnt/$disk || exit 2
  head -c 24000000 /dev/urandom >/mnt/$disk/big
  md5sum </mnt/$disk/big >/tmp/$disk.before
  echo "what $disk is left with" >/mnt/$disk/left
  sync
  umount /mnt/$disk
  mount -t ext4 -o discard /dev/$disk /mnt/$disk || exit 3
  md5sum </mnt/$disk/big >/tmp/$disk.after
  cmp /tmp/$disk.before /tmp/$disk.after && echo "$disk keeps what was written"
done
echo 'files are gone soon'
sleep 1
rm /mnt/vda/big /mnt/vdd/big
umount /mnt/vda /mnt/vdd
sync
echo 'grow now'
until [ "$(cat /sys/block/vdb/size)" = 32768 ]; do sleep 1; done
echo 'vdb has grown'
grep virtio /proc/interrupts
`

const guests = {
  disk: {
    host: 'test/lab/hosts/disk.mjs',
    script: DISK_SCRIPT,
    modules: ['virtio_pci', 'virtio_mmio', 'virtio_blk'],
    cpus: 2,
  },
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

describe('entropy', () => {
  test.each(['first', 'again'])('from four devices, %s', (when) => {
    const lines = results.rng.output.matchAll(
      /^(\w+) (virtio_rng\.\d) gives (\d+) different bytes$/gm,
    )
    const counts = [...lines].filter(([, name]) => name === when).map((line) => Number(line[3]))
    expect(counts).toHaveLength(4)
    // 8192 random bytes miss a value once in 10^11 reads.
    expect(Math.min(...counts)).toBeGreaterThan(250)
  })

  test('over PCI and MMIO, from split and packed rings with indirect tables and event indices', () => {
    const lines = results.rng.output.matchAll(
      /^virtio\d on (\w+) has features (\d+), status (\w+)/gm,
    )
    // Bits 28 to 35: indirect, event index, two of no meaning here, version 1, platform, packed, in order.
    expect([...lines].map(([, ...line]) => line.join(' ')).sort()).toEqual([
      'pci 11001000 0x0000000f',
      'pci 11001010 0x0000000f',
      'platform 11001000 0x0000000f',
      'platform 11001010 0x0000000f',
    ])
  })

  test('with messages over PCI and a line over MMIO', () => {
    const { output } = results.rng
    expect(output.match(/PCI-MSI .*virtio\d-input/g)).toHaveLength(2)
    expect(output.match(/IO-APIC +\d+-fasteoi +virtio\d/g)?.length).toBeGreaterThan(0)
  })
})

test('disks: file systems over PCI and MMIO keep what was written and are clean', () => {
  const { output } = results.disk
  for (const disk of ['vda', 'vdd']) {
    expect(output).toContain(`${disk} keeps what was written`)
    expect(output).toContain(`host: clean, with what ${disk} is left with`)
  }
})

test('disks: the guest sees queues, serial number, caches and alignment', () => {
  const { output } = results.disk
  expect(output).toContain("vda: 196608 sectors, 2 queues, serial 'first-disk', write back")
  expect(output).toContain("vdd: 196608 sectors, 1 queues, serial '', write through")
  expect(output).toContain('vdb: blocks 4096 16384 65536 1048576 8192')
  expect(output).toContain('vda: blocks 512 4096 4096 0 0')
})

test('disks: a discard gives space back, a larger file is a larger disk', () => {
  const { output } = results.disk
  const sizes = (when: string) =>
    [...output.matchAll(new RegExp(`host: ${when} the discard (\\d+) (\\d+) MiB`, 'g'))][0]!.slice(
      1,
    )
  const [before, after] = [sizes('before'), sizes('after')]
  for (const i of [0, 1]) expect(Number(after[i])).toBeLessThan(Number(before[i]))
  expect(output).toContain('vdb has grown')
})

test('disks: one whose data is in JavaScript', () => {
  expect(results.disk.output).toContain('\nJavaScript\n')
  expect(results.disk.output).toContain('host: memory has guest')
})
