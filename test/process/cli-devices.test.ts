// `node-kvm run --device`: devices with UNIX sockets, as long as the machine is there.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { echoKernel } from '../helpers/small-kernels.js'

const command = join(import.meta.dirname, '..', '..', 'lib', 'cli', 'main.cjs')
const folder = mkdtempSync(join(tmpdir(), 'node-kvm-devices-'))
const kernel = join(folder, 'echo.elf')
writeFileSync(kernel, echoKernel)
afterAll(() => rmSync(folder, { recursive: true }))

function run(devices: readonly string[]) {
  const options = devices.flatMap((device) => ['--device', device])
  const args = [command, 'run', '--kernel', kernel, '--memory', '16M', ...options]
  return spawn(process.execPath, args, { cwd: folder, stdio: ['pipe', 'pipe', 'pipe'] })
}

test('sockets are there while the machine is, and answer', async () => {
  const child = run([
    'console,path=hvc0.sock',
    'console,agent.sock,name=agent',
    'balloon,8M',
    'vsock,v.sock,cid=5',
  ])
  await Promise.race([once(child.stdout, 'data'), once(child, 'close')])
  expect(readdirSync(folder).sort()).toEqual(['agent.sock', 'echo.elf', 'hvc0.sock', 'v.sock'])
  // The kernel has no drivers: a call waits, nonsense does not.
  const client = connect(join(folder, 'v.sock'))
  client.write('nonsense\n')
  await once(client, 'close')
  child.stdin.end('q')
  expect(await once(child, 'close')).toEqual([0, null])
  expect(readdirSync(folder)).toEqual(['echo.elf'])
})

test('a path that is taken is said', async () => {
  writeFileSync(join(folder, 'taken'), '')
  const child = run(['console,path=new.sock', 'vsock,taken'])
  child.stdin.end()
  let output = ''
  child.stderr.on('data', (chunk) => {
    output += chunk
  })
  expect((await once(child, 'close'))[0]).toBe(1)
  expect(output).toMatch(/EADDRINUSE.*taken/)
  expect(readdirSync(folder)).not.toContain('new.sock')
})
