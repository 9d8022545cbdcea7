// Power cuts under Debian's kernel with an ext4: what the guest was told is on the disk is there after our
// process is killed, and the file system needs no more than its journal. NODE_KVM_KILLS sets how often.
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { initramfs, kernelElf } from '../../lab/linux.mjs'

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

test(
  `files that were synced are there after each of ${KILLS} kills`,
  async () => {
    const spec = {
      host: 'test/lab/hosts/disk-kill.mjs',
      kernel: kernelElf(),
      initrd: initramfs(SCRIPT, { modules: ['virtio_pci', 'virtio_blk'] }),
      cmdline: 'console=ttyS0 panic=-1 quiet',
      memory: '512M',
      timeout: 600,
    }
    const command = ['node', spec.host, `${KILLS}`, JSON.stringify(spec)]
    const lab = ['lab/run.mjs', '--timeout', `${BOOT_S * (KILLS + 1)}`, '--', ...command]
    const { stdout } = await promisify(execFile)(process.execPath, lab, { cwd: root })
    const counts = [...stdout.matchAll(/^kill \d+: (\d+) files are there$/gm)].map(([, n]) =>
      Number(n),
    )
    expect(counts).toHaveLength(KILLS)
    for (const count of counts) expect(count).toBeGreaterThanOrEqual(3)
  },
  BOOT_S * (KILLS + 2) * 1000,
)
