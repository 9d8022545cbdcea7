// Power cuts under Debian's kernel with an ext4: what the guest was told is on the disk is there after our
// process is killed, and the file system needs no more than its journal. NODE_KVM_KILLS sets how often.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { FOR_LINUX_GUESTS } from '../../lab/guests.mjs'
import { initramfs, kernelElf } from '../../lab/linux.mjs'
import { EXIT_LAB_FAILED } from '../../lab/session.mjs'

const KILLS = Number(process.env.NODE_KVM_KILLS ?? 2)
const root = join(import.meta.dirname, '..', '..')
const BOOT_S = 120

/** Says of each file that is on the disk for sure. */
const SCRIPT = `
mkdir -p /mnt
mount -t ext4 /dev/vda /mnt || exit 2
i=0
while true; do
  i=$((i + 1))
  head -c $((RANDOM % 30000)) /dev/urandom >/mnt/f$i
  sync
  echo "synced $i $(md5sum </mnt/f$i | cut -c1-32)"
done
`

/** So many kills in a stay in the lab: how many files were there after each, and the run's exit status. */
async function stay(kills: number): Promise<{ counts: number[]; status: number }> {
  const initrd = initramfs(SCRIPT, { modules: ['virtio_pci', 'virtio_blk'] })
  const command = ['node', 'test/lab/hosts/disk-kill.mjs', `${kills}`, kernelElf(), initrd]
  const limit = ['--timeout', `${BOOT_S * (kills + 1)}`]
  const lab = ['lab/run.mjs', ...limit, ...FOR_LINUX_GUESTS, '--', ...command]
  const child = spawn(process.execPath, lab, { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] })
  child.stdout.pipe(process.stdout, { end: false })
  const [output, [status]] = await Promise.all([text(child.stdout), once(child, 'close')])
  const counts = [...output.matchAll(/^kill \d+: (\d+) files are there$/gm)].map(([, n]) =>
    Number(n),
  )
  return { counts, status }
}

test(
  `files that were synced are there after each of ${KILLS} kills`,
  async () => {
    const counts: number[] = []
    let last: Awaited<ReturnType<typeof stay>>
    // The emulated machine dies now and then (docs/lab.md): then the rest is done in a new one.
    do {
      last = await stay(KILLS - counts.length)
      counts.push(...last.counts)
    } while (last.status === EXIT_LAB_FAILED && last.counts.length > 0 && counts.length < KILLS)
    expect(counts).toHaveLength(KILLS)
    for (const count of counts) expect(count).toBeGreaterThanOrEqual(3)
  },
  BOOT_S * (KILLS + 2) * 1000,
)
