// @ts-check
// The outside of a Linux guest with a console, a balloon and a socket device. Asks a shell in it, which
// listens on a port of the console, to use them, and says what comes of it as `NAME VALUE`.
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { VirtioBalloon, VirtioConsole, VirtioVsock } from '../../../lib/devices/index.js'

const MIB = 2 ** 20
const PATIENCE_MS = 120_000

const patience = () => ({ signal: AbortSignal.timeout(PATIENCE_MS) })
const sha = (/** @type {Uint8Array} */ bytes) => createHash('sha256').update(bytes).digest('hex')

/**
 * Waits for something to become true.
 *
 * @param {() => boolean | Promise<boolean>} condition
 * @param {string} what for whoever waited in vain
 */
async function until(condition, what) {
  for (const end = Date.now() + PATIENCE_MS; !(await condition()); await sleep(50)) {
    if (Date.now() > end) throw new Error(`waited too long: ${what}`)
  }
}

/** A shell of the guest that reads a port. */
class Shell {
  #port
  #heard = ''

  /** @param {import('../../../lib/devices/index.js').ConsolePort} port */
  constructor(port) {
    this.#port = port
    port.on('data', (bytes) => {
      this.#heard += bytes
    })
  }

  /**
   * Runs a command; gives its output.
   *
   * @param {string} command
   */
  async run(command) {
    this.#heard = ''
    // Quoted, so that an echo of the line itself is not taken for it.
    this.#port.write(`${command}; echo "en""d $?"\n`)
    await until(() => /^end \d+\n/m.test(this.#heard), `${command}; heard ${this.#heard}`)
    return this.#heard.replace(/^end \d+\n/m, '').trim()
  }

  /**
   * A port's file: without udev there are no names in /dev.
   *
   * @param {string} name
   */
  fileOf(name) {
    const names = '/sys/class/virtio-ports/*/name'
    return this.run(`grep -lx ${name} ${names} | sed 's,.*ports/,/dev/,; s,/name,,'`)
  }

  leave() {
    this.#port.write('exit 0\n')
  }
}

/**
 * What a test of the lab's guests takes.
 *
 * @param {'pci' | 'mmio'} transport
 */
export function devicesOver(transport) {
  const ports = [{ console: true }, { name: 'shell' }, { name: 'echo' }]
  const terminal = new VirtioConsole({ ports })
  const balloon = new VirtioBalloon()
  const vsock = new VirtioVsock({ cid: 5 })
  return {
    machineOptions: () => ({
      devices: [terminal, balloon, vsock].map((device) => ({ device, transport })),
    }),
    /**
     * @param {import('../../../lib/index.js').Machine} machine
     * @param {(text: string) => void} say
     */
    async whileRunning(machine, say) {
      const shell = new Shell(portOf(terminal, 'shell'))
      await once(portOf(terminal, 'shell'), 'guestOpen', patience())
      await useConsole(terminal, shell, say)
      await usePorts(terminal, shell, say)
      await useBalloon(balloon, machine, shell, say)
      await useSockets(vsock, shell, say)
      shell.leave()
    },
  }
}

/**
 * @param {VirtioConsole} terminal
 * @param {string} name
 */
function portOf(terminal, name) {
  const port = terminal.port(name)
  if (port === undefined) throw new Error(`no port ${name}`)
  return port
}

/**
 * @param {VirtioConsole} terminal
 * @param {Shell} shell
 * @param {(text: string) => void} say
 */
async function useConsole(terminal, shell, say) {
  // The size is set a moment after the first program opens the terminal.
  const sizeOf = '{ sleep 1; stty size; } </dev/hvc0'
  say(`size ${await shell.run(sizeOf)}`)
  terminal.resize({ columns: 132, rows: 43 })
  say(`resized ${await shell.run(sizeOf)}`)
  const [hvc0] = terminal.ports
  const echo = '{ stty -echo; touch /tmp/reads; read line; echo "got $line"; }'
  await shell.run(`{ ${echo} <>/dev/hvc0 >&0 & }`)
  await until(async () => (await shell.run('ls /tmp')) === 'reads', 'hvc0 is open')
  let output = ''
  hvc0?.on('data', (bytes) => {
    output += bytes
  })
  hvc0?.write('typed on hvc0\n')
  await until(() => output.includes('got'), 'hvc0 answers')
  say(`hvc0 ${output.trim()}`)
}

/**
 * @param {VirtioConsole} terminal
 * @param {Shell} shell
 * @param {(text: string) => void} say
 */
async function usePorts(terminal, shell, say) {
  const echo = portOf(terminal, 'echo')
  await shell.run(`{ cat <>${await shell.fileOf('echo')} >&0 & }`)
  const sent = randomBytes(MIB)
  /** @type {Buffer[]} */
  const back = []
  let length = 0
  echo.on('data', (bytes) => {
    back.push(bytes)
    length += bytes.length
  })
  echo.write(sent)
  await until(() => length >= sent.length, 'echo')
  say(`echo ${sha(Buffer.concat(back)) === sha(sent)}`)
  const closed = once(echo, 'guestClose', patience())
  echo.end()
  await closed
  say('echo ended')

  const late = terminal.addPort({ name: 'late' })
  await until(async () => (await shell.fileOf('late')) !== '', 'a port comes')
  await shell.run(`echo hello from late >${await shell.fileOf('late')}`)
  say(`late ${(await once(late, 'data', patience()))[0]}`.trim())
  terminal.removePort(late)
  await until(async () => (await shell.fileOf('late')) === '', 'a port goes')
  const again = terminal.addPort({ name: 'again' })
  await until(async () => (await shell.fileOf('again')) !== '', 'a port comes again')
  await shell.run(`echo hello from again >${await shell.fileOf('again')}`)
  say(`again ${(await once(again, 'data', patience()))[0]}`.trim())
  say(`numbers ${late.id} ${again.id}`)
}

/**
 * @param {VirtioBalloon} balloon
 * @param {import('../../../lib/index.js').Machine} machine
 * @param {Shell} shell
 * @param {(text: string) => void} say
 */
async function useBalloon(balloon, machine, shell, say) {
  const residentMib = () => {
    const { memory } = machine
    const counts = memory.ranges.map(({ gpa, size }) => memory.residency(gpa, size).count)
    return Math.round(counts.reduce((sum, count) => sum + count, 0) / 256)
  }
  const { freeMemory = 0n, totalMemory = 0n } = await balloon.statistics()
  const total = /MemTotal: +(\d+)/.exec(await shell.run('grep MemTotal /proc/meminfo'))
  say(`statistics ${totalMemory === BigInt(total?.[1] ?? 0) * 1024n && freeMemory < totalMemory}`)

  await shell.run('mkdir -p /fill; mount -t tmpfs -o size=240M none /fill')
  await shell.run('dd if=/dev/zero of=/fill/a bs=1M count=120 2>/dev/null')
  const full = residentMib()
  await shell.run('rm /fill/a')
  await until(() => residentMib() < full - 80, 'free page reporting')
  say(`reporting ${full - residentMib()} MiB less, of ${balloon.released.reported / MIB} reported`)

  balloon.target = 100 * MIB
  await balloon.reached(patience())
  say(`inflated ${balloon.actual / MIB} of which the host has ${balloon.released.inflated / MIB}`)
  const hints = await balloon.freePages()
  say(`hints ${hints.ranges.reduce((sum, { size }) => sum + size, 0) / MIB}`)
  hints.release()
  // More than there is without what is in the balloon.
  say(`oom ${await shell.run('dd if=/dev/zero of=/fill/b bs=1M count=150 2>&1 | tail -1')}`)
  say(`left ${balloon.actual / MIB}`)
  await shell.run('rm /fill/b')
  balloon.target = 0
  await balloon.reached(patience())
  say(`deflated ${balloon.actual}`)
}

/**
 * @param {VirtioVsock} vsock
 * @param {Shell} shell
 * @param {(text: string) => void} say
 */
async function useSockets(vsock, shell, say) {
  vsock.listen(1234, (socket) => socket.pipe(socket), { allowHalfOpen: true })
  say(`to the host: ${await shell.run('vsock send 1234 1000000')}`)
  say(`to nobody: ${await shell.run('vsock send 4321 1 2>&1')}`)
  await shell.run('{ vsock echo 77 >/tmp/vsock & }')
  await until(async () => (await shell.run('cat /tmp/vsock')) === 'listening', 'the guest listens')
  const socket = vsock.connect(77)
  const sent = randomBytes(MIB)
  socket.end(sent)
  const back = []
  for await (const bytes of socket) back.push(bytes)
  say(`to the guest: ${sha(Buffer.concat(back)) === sha(sent)}`)
  const refused = vsock.connect(78)
  const [error] = await once(refused, 'error', patience())
  say(`to nobody there: ${error.code}`)
  await until(() => vsock.connections === 0, 'no connection is left')
}
