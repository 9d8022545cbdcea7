// A driver that writes blocks, flushes, and says on standard output what is on the disk for sure, until it
// is killed: for disk-kill.test.ts.
//
//   tsx test/helpers/disk-writer.ts IMAGE SEED
import { writeSync } from 'node:fs'
import { VIRTIO_BLK_S } from '../../src/devices/index.js'
import { VirtioDisk } from '../../src/index.js'
import { BlockDriver } from './block-driver.js'
import { Dice } from './dice.js'

const BLOCK = 4096
const [image = '', seed = '1'] = process.argv.slice(2)
const dice = new Dice(Number(seed))
const disk = VirtioDisk.open(image)
const driver = new BlockDriver(disk, { packed: dice.below(2) === 1, eventIdx: dice.below(2) === 1 })
const blocks = disk.size / BLOCK
for (let round = 1; ; round++) {
  // Each block in it says when it was written.
  const chosen = new Set(Array.from({ length: 1 + dice.below(8) }, () => dice.below(blocks)))
  const answers = [...chosen].map((block) => {
    const data = new Uint32Array(BLOCK / 4).fill(round)
    return driver.write(block * 8, new Uint8Array(data.buffer))
  })
  const statuses = [
    ...(await Promise.all(answers)).map(({ status }) => status),
    await driver.flush(),
  ]
  if (statuses.some((status) => status !== VIRTIO_BLK_S.ok)) process.exit(3)
  writeSync(1, `${round} ${[...chosen].join(' ')}\n`)
}
