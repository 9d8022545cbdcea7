// Ends in a given way while a disk has requests in flight: for disk-end.test.ts.
//
//   tsx test/helpers/disk-end.ts exit|throw|leave|terminate IMAGE
import { once } from 'node:events'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { VirtioDisk } from '../../src/index.js'
import { BlockDriver } from './block-driver.js'

const LENGTH = 0x4_0000
/** Workers have no loader of TypeScript of their own. */
const IN_WORKER = `
  const url = ${JSON.stringify(import.meta.url)}
  import('tsx/esm/api').then(({ tsImport }) => tsImport(url, url))
`

function start(image: string): BlockDriver {
  const driver = new BlockDriver(VirtioDisk.open(image), { indirect: true })
  for (let i = 0; i < 16; i++) void driver.write(i * 512, Buffer.alloc(LENGTH, i))
  return driver
}

async function terminate(image: string): Promise<void> {
  for (let round = 0; round < 5; round++) {
    const worker = new Worker(IN_WORKER, { eval: true, workerData: image })
    await once(worker, 'message')
    await worker.terminate()
    // The file is free again as soon as nothing is in flight.
    await free(image)
  }
  console.log('terminated')
}

async function free(image: string): Promise<void> {
  for (;;) {
    try {
      VirtioDisk.open(image).close()
      return
    } catch (error) {
      if ((error as { code?: string }).code !== 'EBUSY') throw error
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }
}

if (!isMainThread) {
  start(workerData as string)
  parentPort!.postMessage('started')
} else {
  const [how, image = ''] = process.argv.slice(2)
  if (how === 'terminate') {
    await terminate(image)
  } else {
    const driver = start(image)
    if (how === 'exit') process.exit(7)
    if (how === 'throw') throw new Error('on purpose')
    // Nothing but the driver's own events keeps the process.
    driver.offInterrupts()
  }
}
