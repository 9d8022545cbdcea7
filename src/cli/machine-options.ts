// From the command line, and the file that it may name, to what a machine takes.

import type { KernelBoot, MachineBoot } from '../machine/boot.js'
import type { Machine, MachineOptions } from '../machine/machine.js'
import type { CpuModel } from '../x86/index.js'
import { type MachineConfig, readConfig } from './config.js'
import { deviceArgument } from './device-specs.js'
import { isTerminal } from './terminal.js'

/** The options of the command line that make the machine. */
export interface MachineArguments {
  kernel?: string
  initrd?: string
  cmdline?: string
  module?: string[]
  protocol?: string
  firmware?: string
  memory?: string
  thp?: boolean
  cpus?: string
  threads?: string
  cores?: string
  cpu?: string
  device?: string[]
  net?: string[]
  config?: string
}

const DEFAULT_CMDLINE = 'console=ttyS0'

const STDIN = 0

/** What `--thp` stands for. */
const HUGE_PAGES = { backing: 'anonymous', thp: 'madvise' } as const

/**
 * What the machine is to be; undefined when nothing says what to boot.
 *
 * @throws FileError for a wrong configuration file
 */
export function machineOptions(
  args: MachineArguments,
): (Omit<MachineOptions, 'devices'> & MachineConfig) | undefined {
  const config = args.config === undefined ? {} : readConfig(args.config)
  const boot = bootOf(args, config.boot)
  if (boot === undefined) return undefined
  return {
    holdSerialInput: !isTerminal(STDIN),
    ...config,
    ...(args.memory === undefined ? {} : { memory: args.memory }),
    ...(args.thp ? { memoryOptions: { ...config.memoryOptions, ...HUGE_PAGES } } : {}),
    ...(args.cpus === undefined ? {} : { cpus: Number(args.cpus) }),
    ...(args.threads === undefined ? {} : { threadsPerCore: Number(args.threads) }),
    ...(args.cores === undefined ? {} : { coresPerSocket: Number(args.cores) }),
    ...(args.cpu === undefined ? {} : cpuOf(args.cpu)),
    boot,
    devices: [
      ...(config.devices ?? []),
      ...(args.device ?? []).map(deviceArgument),
      ...(args.net ?? []).map((text) => deviceArgument(`net,${text}`)),
    ],
  }
}

/** `x86-64-v3,pcid,-avx2`: a model, then features that it shall have or not have. */
function cpuOf(text: string): Pick<MachineOptions, 'cpuModel' | 'cpuFeatures'> {
  const [model, ...features] = text.split(',')
  const wanted = features.map((name): [string, boolean] => [
    name.replace(/^[-+]/, ''),
    !name.startsWith('-'),
  ])
  return { cpuModel: model as CpuModel, cpuFeatures: Object.fromEntries(wanted) }
}

function bootOf(args: MachineArguments, configured?: MachineBoot): MachineBoot | undefined {
  const { firmware, kernel, initrd, cmdline, module: modules, protocol } = args
  if (firmware !== undefined) return { firmware }
  if (kernel === undefined && (configured === undefined || !('kernel' in configured))) {
    return configured
  }
  const base = (configured !== undefined && 'kernel' in configured ? configured : {}) as KernelBoot
  return {
    cmdline: DEFAULT_CMDLINE,
    ...base,
    ...(kernel === undefined ? {} : { kernel }),
    ...(initrd === undefined ? {} : { initrd }),
    ...(cmdline === undefined ? {} : { cmdline }),
    ...(modules === undefined
      ? {}
      : { modules: modules.map((image) => ({ image, cmdline: image })) }),
    ...(protocol === undefined ? {} : { protocol: protocol as 'auto' }),
  }
}

/** Puts the configuration's files where the guest can ask for them. */
export function fillFwCfg(machine: Machine, files: MachineConfig['fwCfg'] = {}): void {
  for (const [name, content] of Object.entries(files)) {
    machine.fwCfg.setFile(name, typeof content === 'string' ? Buffer.from(content) : u64(content))
  }
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}
