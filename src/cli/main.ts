#!/usr/bin/env node
// node-kvm on the command line: finds the command and gives it its arguments. Commands are loaded
// when they are named, so that one works where another one's needs are missing.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { stripVTControlCharacters } from 'node:util'
import { standardOutput } from './standard-output.js'

/** A command's module. */
interface Command {
  /** Help for the command. */
  usage: string
  /** Runs it; resolves to the exit status. */
  run(args: string[]): Promise<number> | number
}

const COMMANDS: Readonly<Record<string, { summary: string; load(): Promise<Command> }>> = {
  info: { summary: 'what KVM is and can do on this host', load: () => import('./info.js') },
  check: { summary: 'what of the manuals holds on this machine', load: () => import('./check.js') },
  run: { summary: 'boot a Linux kernel in this process', load: () => import('./run.js') },
}

const EXIT_FAILED = 1
const EXIT_USAGE = 2

function usage(): string {
  const width = Math.max(...Object.keys(COMMANDS).map((name) => name.length), 'help'.length)
  const rows = Object.entries(COMMANDS).map(
    ([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`,
  )
  return `Usage: node-kvm COMMAND [options]

${rows.join('\n')}
  ${'help'.padEnd(width)}  this text, or the help of a command

  --version  version of node-kvm`
}

function version(): string {
  const file = createRequire(import.meta.url).resolve('node-kvm/package.json')
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}

function print(text: string): number {
  standardOutput().write(`${text}\n`)
  return 0
}

function misuse(complaint: string, help = usage()): number {
  // What the user typed comes back to the terminal, without what could steer it.
  process.stderr.write(`node-kvm: ${stripVTControlCharacters(complaint)}\n\n${help}\n`)
  return EXIT_USAGE
}

async function dispatch([name, ...args]: string[]): Promise<number> {
  if (name === undefined) return misuse('no command')
  if (name === '--version' || name === '-v') return print(version())
  if (name === 'help' || name === '--help' || name === '-h') return help(args[0])
  if (!Object.hasOwn(COMMANDS, name)) return misuse(`unknown command '${name}'`)
  const command = await COMMANDS[name]!.load()
  try {
    return await command.run(args)
  } catch (error) {
    return report(error, command)
  }
}

async function help(name: string | undefined): Promise<number> {
  if (name === undefined || name === 'help') return print(usage())
  if (!Object.hasOwn(COMMANDS, name)) return misuse(`unknown command '${name}'`)
  return print((await COMMANDS[name]!.load()).usage)
}

function report(error: unknown, command: Command): number {
  const { code, message } = error as { code?: unknown; message?: unknown }
  // An error without a code is a defect of ours and deserves its stack.
  if (typeof code !== 'string' || typeof message !== 'string') throw error
  if (code.startsWith('ERR_PARSE_ARGS_')) return misuse(message, command.usage)
  process.stderr.write(`node-kvm: ${message}\n`)
  return EXIT_FAILED
}

// Not awaited here: as CommonJS, the command starts without Node's loader of ES modules.
void dispatch(process.argv.slice(2)).then((status) => {
  process.exitCode = status
})
