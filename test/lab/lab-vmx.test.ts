// The lab's Bochs machine, seen from the host: the same contract as the QEMU one, with Intel VMX and EPT.
// One run, because it takes the better part of a minute.
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'

const root = join(import.meta.dirname, '..', '..')

it('runs node with kvm_intel and EPT, and gives status, output and files', {
  timeout: 600_000,
}, async () => {
  const out = mkdtempSync(join(tmpdir(), 'lab-vmx-test-'))
  try {
    writeFileSync(join(out, 'given'), 'from the host')
    const script = `
      const { readFileSync, existsSync, writeFileSync } = require('node:fs')
      const parameter = (name) => readFileSync('/sys/module/kvm_intel/parameters/' + name, 'utf8').trim()
      writeFileSync('/lab/out/facts.json', JSON.stringify({
        directory: process.cwd(), lab: process.env.LAB, arg: process.argv[1],
        given: readFileSync('/lab/out/given', 'utf8'),
        parameters: ['ept', 'unrestricted_guest', 'nested'].map(parameter),
        devices: ['/dev/kvm', '/dev/net/tun', '/dev/shm', 'package.json'].filter(existsSync),
      }))
      console.log('to stdout')
      console.error('to stderr')
      process.exit(3)`
    const lab = [
      'lab/run.mjs',
      '--machine',
      'vmx',
      '--out',
      out,
      '--',
      'node',
      '-e',
      script,
      "a 'b",
    ]
    // A file of the host that the machine does not have would make node print a warning.
    const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env
    const outcome = await new Promise((resolve) => {
      execFile(process.execPath, lab, { cwd: root, env }, (error, stdout, stderr) =>
        resolve({ status: error?.code ?? 0, stdout, stderr }),
      )
    })
    expect(outcome).toMatchObject({ status: 3, stdout: 'to stdout\n' })
    expect(outcome).toHaveProperty('stderr', expect.stringMatching(/to stderr\n$/))
    expect(readdirSync(out).sort()).toEqual(['facts.json', 'given'])
    expect(JSON.parse(readFileSync(join(out, 'facts.json'), 'utf8'))).toEqual({
      directory: root,
      lab: 'vmx',
      arg: "a 'b",
      given: 'from the host',
      parameters: ['Y', 'Y', 'Y'],
      devices: ['/dev/kvm', '/dev/net/tun', '/dev/shm', 'package.json'],
    })
  } finally {
    rmSync(out, { recursive: true })
  }
})
