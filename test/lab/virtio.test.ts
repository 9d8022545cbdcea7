// Debian's kernel with its own drivers on our virtio devices, over PCI and over MMIO. One stay in the lab
// for all guests: a guest of each kind of device, with all its checks.

import { beforeAll, describe, expect, test } from 'vitest'
import { runLabGuests } from '../../lab/guests.mjs'
import { ensureProgram } from '../../lab/setup.mjs'
import { installed } from '../helpers/compiled.js'

/**
 * Reads from each device in turn, says what its driver agreed on, and lets the driver go and come back,
 * which resets the device and sets it up again.
 */
const RNG_SCRIPT = `
cd /sys/class/misc/hw_random
read_all() {
  for device in $(cat rng_available); do
    echo "$device" >rng_current
    bytes=$(dd if=/dev/hwrng bs=4096 count=2 2>/dev/null | od -An -v -tx1 | tr -s ' ' '\\n' | grep . | sort -u | wc -l)
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

/**
 * Two file systems, an aligned disk that grows, one in JavaScript, one with a bad block in its middle (1024),
 * one on a file system that is too small for it.
 */
const DISK_SCRIPT = `
mkdir -p /mnt/vda /mnt/vdd
for disk in vda vdb vdc vdd; do
  cd /sys/block/$disk
  echo "$disk: $(cat size) sectors, $(ls mq | wc -l) queues, serial '$(cat serial)', $(cat queue/write_cache)"
  echo "$disk: blocks $(cat queue/logical_block_size) $(cat queue/physical_block_size) $(cat queue/minimum_io_size) $(cat queue/optimal_io_size) $(cat alignment_offset)"
done
dd if=/dev/vdc bs=512 count=1 2>/dev/null | head -n 1
printf 'guest' | dd of=/dev/vdc conv=fsync 2>/dev/null

put() { dd if=/tmp/piece of=/dev/$1 bs=4096 count=$3 seek=$2 oflag=direct conv=fsync 2>/dev/null; }
is_there() { dd if=/dev/$1 bs=4096 count=$3 skip=$2 iflag=direct 2>/dev/null | cmp -s - /tmp/piece; }
head -c 4096 /dev/urandom >/tmp/piece
for block in 1023 1024 1025; do
  echo "block $block: $(put vde $block 1 && echo written || echo error), $(is_there vde $block 1 && echo there || echo error)"
done
head -c 131072 /dev/urandom >/tmp/piece
written=0
there=0
while put vdf $((written * 32)) 32; do written=$((written + 1)); done
while is_there vdf $((there * 32)) 32; do there=$((there + 1)); done
echo "full disk: $written written, $there there"

for disk in vda vdd; do
  /sbin/mke2fs -q -t ext4 /dev/$disk && mount -t ext4 /dev/$disk /mnt/$disk || exit 2
  head -c 24000000 /dev/urandom >/mnt/$disk/big
  md5sum </mnt/$disk/big >/tmp/$disk.before
  echo "what $disk is left with" >/mnt/$disk/left
  sync
  umount /mnt/$disk
  mount -t ext4 /dev/$disk /mnt/$disk || exit 3
  md5sum </mnt/$disk/big >/tmp/$disk.after
  cmp /tmp/$disk.before /tmp/$disk.after && echo "$disk keeps what was written"
done
echo 'files are gone soon'
sleep 1
for disk in vda vdd; do
  rm /mnt/$disk/big
  sync
  fstrim /mnt/$disk
  umount /mnt/$disk
  /sbin/e2fsck -fn /dev/$disk >/dev/null 2>&1 && echo "$disk is clean"
done
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
    files: installed('/sbin/mke2fs', '/sbin/e2fsck'),
    cpus: 2,
    timeout: 400,
  },
  rng: {
    host: 'test/lab/hosts/rng.mjs',
    script: RNG_SCRIPT,
    modules: ['virtio_pci', 'virtio_mmio', 'virtio_rng'],
  },
}

let results: ReturnType<typeof runLabGuests<keyof typeof guests>>
beforeAll(() => {
  ensureProgram('/sbin/dmsetup', ['dmsetup'])
  results = runLabGuests(guests, { labOptions: ['--modules', 'dm_mod,loop'] })
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
    expect(output).toContain(`${disk} is clean`)
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

test('disks: a discard gives the space of a file back, a larger file is a larger disk', () => {
  const { output } = results.disk
  const [before, after] = ['before', 'after'].map((when) =>
    new RegExp(`^.*host: ${when} the discard (\\d+) (\\d+) MiB$`, 'm').exec(output)!.slice(1),
  )
  // Of 24 MB.
  for (const i of [0, 1]) expect(Number(before![i]) - Number(after![i])).toBeGreaterThan(20)
  expect(output).toContain('vdb has grown')
})

test('disks: errors stay with the block that has them', () => {
  const { output } = results.disk
  expect(output).toContain('block 1023: written, there')
  expect(output).toContain('block 1024: error, error')
  expect(output).toContain('block 1025: written, there')
})

test('disks: what a full disk has taken is there', () => {
  const [, written, there] = /^full disk: (\d+) written, (\d+) there$/m.exec(results.disk.output)!
  expect(Number(written)).toBeGreaterThan(0)
  // 2 MiB in pieces of 128 KiB.
  expect(Number(written)).toBeLessThanOrEqual(16)
  expect(there).toBe(written)
})

test('disks: one whose data is in JavaScript', () => {
  expect(results.disk.output).toContain('\nJavaScript\n')
  expect(results.disk.output).toContain('host: memory has guest')
})
