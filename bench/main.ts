// npm run bench -- NAME [--quick] [--json]
// Every benchmark puts a C loop beside what it measures, in the same process (bench/harness.ts), and
// prints a table or, with --json, one JSON object and nothing else.

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { Benchmark } from './benchmark.js'
import { buildAddons, loadLoops } from './build.js'
import type { Effort } from './harness.js'
import { type Report, toJson, toTable } from './report.js'

const benchmarks: Record<string, () => Promise<{ benchmark: Benchmark }>> = {
  api: () => import('./api.js'),
  block: () => import('./block.js'),
  exit: () => import('./exit.js'),
  interrupts: () => import('./interrupts.js'),
  memory: () => import('./memory.js'),
  net: () => import('./net.js'),
  queues: () => import('./queues.js'),
  smp: () => import('./smp.js'),
  testing: () => import('./testing.js'),
  threads: () => import('./threads.js'),
}
/** Parts that another benchmark runs in a process of their own. */
const parts: typeof benchmarks = {
  'api-bare': () => import('./api-bare.js'),
  'exit-bare': () => import('./exit-bare.js'),
  'table-bare': () => import('./table-bare.js'),
}

const QUICK: Effort = { blockMs: 0.5, pairs: 100, rounds: 5, warmUpMs: 300 }
const FULL: Effort = { blockMs: 0.5, pairs: 400, rounds: 10, warmUpMs: 1000 }

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'boolean' }, quick: { type: 'boolean' } },
})

function runApart(name: string, environment: Record<string, string>): Report {
  const args = [...process.execArgv, fileURLToPath(import.meta.url), name, '--json']
  if (options.quick) args.push('--quick')
  const { status, stdout } = spawnSync(process.execPath, args, {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`benchmark ${name} failed`)
  return JSON.parse(stdout)
}

async function main(): Promise<void> {
  const name = positionals[0] ?? ''
  const load = benchmarks[name] ?? parts[name]
  if (positionals.length !== 1 || load === undefined) {
    const names = Object.keys(benchmarks).join(' | ')
    console.error(`usage: npm run bench -- ${names} [--quick] [--json]`)
    process.exitCode = 2
    return
  }
  if (name in benchmarks) buildAddons()
  const { benchmark } = await load()
  const effort = options.quick ? QUICK : FULL
  const report = await benchmark({ loops: loadLoops(), effort, runApart })
  console.log(options.json ? toJson(name, report) : toTable(name, report))
}

await main()
