// The names of registers and their classes, as operand kinds of opcodes name them.

import { Register } from 'iced-x86'

const CLASSES: readonly [RegExp, string][] = [
  [/^([abcd][lh]|[sd]il|[sb]pl|r\d+l)$/, 'r8'],
  [/^([abcd]x|[sd]i|[sb]p|r\d+w)$/, 'r16'],
  [/^(e([abcd]x|[sd]i|[sb]p)|r\d+d)$/, 'r32'],
  [/^(r([abcd]x|[sd]i|[sb]p)|r\d+)$/, 'r64'],
  [/^[cdefgs]s$/, 'seg'],
  [/^st\d$/, 'st'],
  [/^[er]ip$/, 'ip'],
  [/^(cr|dr|tr|mm|xmm|ymm|zmm|tmm|bnd|k)\d+$/, ''],
]

/** The class of a register, or undefined where the name is none: `r64`, `xmm`, `seg`. */
function classOf(name: string): string | undefined {
  const found = CLASSES.find(([pattern]) => pattern.test(name))
  return found && (found[1] || /^[a-z]+/.exec(name)![0])
}

/** A register as the assembler knows it. */
export interface NamedRegister {
  readonly name: string
  readonly register: Register
  readonly class: string
}

const registers = new Map<string, NamedRegister>()
for (const [key, register] of Object.entries(Register)) {
  const name = key.toLowerCase()
  const itsClass = classOf(name)
  if (typeof register !== 'number' || itsClass === undefined) continue
  const named = { name, register, class: itsClass }
  registers.set(name, named)
  if (/^r\d+l$/.test(name)) registers.set(name.replace('l', 'b'), named)
}
registers.set('st', registers.get('st0')!)

/** The register of that name in any case. */
export function registerNamed(name: string): NamedRegister | undefined {
  return registers.get(name.toLowerCase())
}
