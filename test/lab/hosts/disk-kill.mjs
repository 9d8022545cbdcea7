// Power cuts, in the lab: a process whose guest writes to an ext4 and syncs is killed at a random point,
// again and again. What the guest was told is on the disk has to be there.
//
//   node test/lab/hosts/disk-kill.mjs KILLS KERNEL INITRD
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { truncateSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

const IMAGE = '/tmp/kill.img'
const COMMAND_LINE = ['--cmdline', 'console=ttyS0 panic=-1 quiet']
const tool = (...command) => {
  const [program, ...args] = command
  return execFileSync(`/sbin/${program}`, args, { stdio: 'pipe' })
}

/** @returns what the guest has synced: names and digests */
async function writeUntilKilled(kernel, initrd) {
  const machine = ['--kernel', kernel, '--initrd', initrd, '--device', `disk,${IMAGE}`]
  const child = spawn(process.execPath, ['lib/cli/main.cjs', 'run', ...machine, ...COMMAND_LINE], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'close')
  let said = ''
  const writes = new Promise((resolve) => {
    child.stdout.on('data', (chunk) => {
      said += chunk
      // The whole line: what is counted below.
      if (/synced 3 \w+\r?\n/.test(said)) resolve(undefined)
    })
  })
  await Promise.race([writes, ended])
  await sleep(Math.random() * 3000)
  child.kill('SIGKILL')
  await ended
  return [...said.matchAll(/synced (\d+) ([\da-f]{32})\r?\n/g)].map(([, name, digest]) => [
    name,
    digest,
  ])
}

/** @param {number} kill @param {string[]} guest its kernel and initial RAM disk */
async function cut(kill, [kernel, initrd]) {
  writeFileSync(IMAGE, '')
  truncateSync(IMAGE, 64 * 2 ** 20)
  tool('mke2fs', '-q', '-t', 'ext4', IMAGE)
  const synced = await writeUntilKilled(kernel, initrd)
  // The journal first, as after any power cut; then there must be nothing to complain of.
  // It says 1 when there was a journal to take over.
  const { status, stdout } = spawnSync('/sbin/e2fsck', ['-fp', IMAGE], { encoding: 'utf8' })
  if (status !== 0 && status !== 1)
    throw new Error(`kill ${kill}: e2fsck says ${status}: ${stdout}`)
  tool('e2fsck', '-fn', IMAGE)
  for (const [name, digest] of synced) {
    const bytes = tool('debugfs', '-R', `cat /f${name}`, IMAGE)
    const found = createHash('md5').update(bytes).digest('hex')
    if (found !== digest) throw new Error(`kill ${kill}: f${name} is ${found}, not ${digest}`)
  }
  console.log(`kill ${kill}: ${synced.length} files are there`)
}

const [kills, ...guest] = process.argv.slice(2)
for (let kill = 1; kill <= Number(kills); kill++) await cut(kill, guest)
