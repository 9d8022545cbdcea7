// Network devices in every way a guest can be connected, and what is at the other end of each.
import { execFileSync, spawn } from 'node:child_process'
import { createCipheriv, createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer, get } from 'node:http'
import { createServer } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { setTimeout } from 'node:timers/promises'
import { EthernetSwitch, VirtioNet } from '../../../lib/devices/index.js'
import { Machine, StreamBackend, Tap, TapNet } from '../../../lib/index.js'

const MIB = 2 ** 20
const PASST_SOCKET = '/tmp/passt.socket'
const { kernel, initrd } = JSON.parse(process.argv[2])
const mac = (/** @type {number} */ n) => `52:54:00:00:00:0${n}`
const ip = (/** @type {string} */ args) => execFileSync('ip', args.split(' '))

const bridge = new EthernetSwitch()
const capture = bridge.capture(64 * MIB)
/** @type {string[]} */
const taps = []
/** @type {import('node:child_process').ChildProcess} */
let passt

function tapNet(name, address, options, queues = 1) {
  ip(`tuntap add dev ${name} mode tap${queues > 1 ? ' multi_queue' : ''}`)
  ip(`addr add ${address}/24 dev ${name}`)
  ip(`link set ${name} up`)
  taps.push(name)
  return new TapNet(Tap.open(name, { queues }), options)
}

async function startPasst() {
  const addresses = '-a 10.0.4.2 -n 24 -g 10.0.4.1 -i tap0'.split(' ')
  passt = spawn('passt', ['-f', '-s', PASST_SOCKET, '-t', '8081:80', ...addresses], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  while (!existsSync(PASST_SOCKET)) await setTimeout(50)
  return StreamBackend.connect({ path: PASST_SOCKET })
}

export async function machineOptions() {
  const pci = tapNet('tap0', '10.0.1.1', { mac: mac(1) }, 2)
  const mmio = tapNet('tap1', '10.0.2.1', { mac: mac(2) })
  return {
    devices: [
      pci,
      { device: mmio, transport: 'mmio', packed: true },
      new VirtioNet(bridge.port(), { mac: mac(3) }),
      { device: new VirtioNet(await startPasst(), { mac: mac(4) }), packed: true },
    ],
  }
}

/** Bytes that no compression would shorten, the same in each run. */
function* randomBytes(/** @type {number} */ size) {
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16))
  const zeros = Buffer.alloc(256 * 1024)
  for (let left = size; left > 0; left -= zeros.length) yield cipher.update(zeros)
}

/** Sends `size` bytes to whoever connects. */
function sendTo(/** @type {number} */ port, /** @type {number} */ size) {
  return createServer({ allowHalfOpen: true }, async (socket) => {
    socket.on('error', () => {})
    for (const bytes of randomBytes(size)) if (!socket.write(bytes)) await once(socket, 'drain')
    socket.end()
  }).listen(port, '0.0.0.0')
}

/** Fetches the file of whoever connects, who is told by the end of the connection, and says its hash. */
function fetchFor(/** @type {number} */ port, /** @type {(text: string) => void} */ say) {
  return createServer({ allowHalfOpen: true }, async (socket) => {
    const hash = createHash('sha256')
    let size = 0
    const began = performance.now()
    const request = get({ host: socket.remoteAddress, path: '/file' })
    const [response] = await once(request, 'response')
    for await (const chunk of response) {
      hash.update(chunk)
      size += chunk.length
    }
    const seconds = ((performance.now() - began) / 1000).toFixed(1)
    say(`port ${port} got ${size} bytes in ${seconds} s: ${hash.digest('hex')}`)
    socket.end()
  }).listen(port, '0.0.0.0')
}

/** Waits until so many frames longer than the MTU allows passed a TAP, one way; ends with us. */
function watchLongFrames(/** @type {string} */ tap, /** @type {'in' | 'out'} */ way, say) {
  const args = `-i ${tap} -Q ${way} -c 1000 -s 64 -p -w /dev/null greater 1515`.split(' ')
  const watch = spawn('tcpdump', args, { stdio: 'ignore' })
  watch.once('exit', (status) => status === 0 && say(`${tap}: 1000 segments ${way}`))
  return watch
}

/** A second machine of the same kernel, on the switch. */
async function runSecond() {
  const machine = await Machine.create({
    memory: '192M',
    boot: { kernel, initrd, cmdline: 'console=ttyS0 panic=-1 quiet role=second' },
    devices: [new VirtioNet(bridge.port(), { mac: mac(5) })],
  })
  machine.serial.resume()
  const run = machine.run()
  return async () => {
    await machine.stop()
    await run
    await machine.close()
  }
}

export async function whileRunning(machine, say) {
  const file = createHash('sha256')
  for (const bytes of randomBytes(100 * MIB)) file.update(bytes)
  say(`the file is ${file.digest('hex')}`)
  const servers = [sendTo(5001, 100 * MIB), sendTo(5003, 100 * MIB), sendTo(5005, MIB / 4)]
  servers.push(fetchFor(5002, say), fetchFor(5004, say))
  const web = createHttpServer((_, response) => response.end('from the host, by passt\n'))
  web.listen(8080, '127.0.0.1')
  takeAwayWhenAsked(machine)
  const watches = taps.flatMap((tap) => [
    watchLongFrames(tap, 'in', say),
    watchLongFrames(tap, 'out', say),
  ])
  const stopSecond = await runSecond()
  let ended = false
  machine.once('ended', () => {
    ended = true
  })
  let answer = ''
  while (!ended) {
    answer ||= await fetchText('http://127.0.0.1:8081/hello').catch(() => '')
    await setTimeout(500)
  }
  say(`from the guest, by passt: ${answer}`)
  await stopSecond()
  for (const each of [...servers, web]) each.close()
  for (const each of watches) each.kill()
  capture.end()
  const frames = await buffer(capture)
  say(describeCapture(frames))
  say(`tcpdump reads ${countByTcpdump(frames)}`)
}

/** A TAP vanishes while its guest runs. */
function takeAwayWhenAsked(machine) {
  let text = ''
  machine.serial.on('data', function listener(chunk) {
    text += chunk
    if (!text.includes('take tap1 away')) return
    machine.serial.off('data', listener)
    ip('link del tap1')
  })
}

const fetchText = (/** @type {string} */ url) =>
  new Promise((resolve, reject) => {
    // Passt accepts what the guest does not take yet.
    get(url, { signal: AbortSignal.timeout(3000) }, (response) => {
      buffer(response).then((bytes) => resolve(bytes.toString().trim()), reject)
    }).on('error', reject)
  })

/** Goes through a capture as a reader of pcap files does. */
function describeCapture(/** @type {Buffer} */ bytes) {
  const types = new Set()
  let count = 0
  let at = 24
  for (; at < bytes.length; count++) {
    types.add(bytes.readUInt16BE(at + 16 + 12).toString(16))
    at += 16 + bytes.readUInt32LE(at + 8)
  }
  const whole = at === bytes.length && bytes.readUInt32LE(0) === 0xa1b23c4d
  return `the capture ${whole ? 'is whole' : 'is broken'}: ${count} frames, types ${[...types].sort().join(' ')}`
}

/** What somebody else's reader finds in it. */
function countByTcpdump(/** @type {Buffer} */ bytes) {
  writeFileSync('/tmp/switch.pcap', bytes)
  const count = (/** @type {string[]} */ ...filter) => {
    const options = ['-r', '/tmp/switch.pcap', '-nn', '-t', ...filter]
    const lines = execFileSync('tcpdump', options, { encoding: 'utf8', stdio: 'pipe' })
    return lines.split('\n').length - 1
  }
  return `${count()} frames, ${count('arp')} of ARP, ${count('tcp', 'port', '7000')} of TCP`
}

export function afterwards() {
  passt?.kill()
}
