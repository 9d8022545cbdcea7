// A strict reader of AML for tests, written from the grammar of ACPI 6.5 §20.2 and not from the
// writer: every length must end exactly where its content does, every byte must mean something.

/** A decoded term: an operator's name and its operands. */
export type AmlTerm = readonly [op: string, ...operands: unknown[]]

const REGISTERS: readonly (readonly [number, number, string])[] = [
  [0x60, 8, 'Local'],
  [0x68, 7, 'Arg'],
]

/** Operators whose operands are terms only, by their byte. */
const OPERATORS = new Map<number, readonly [string, number]>([
  [0x70, ['Store', 2]],
  [0x7b, ['And', 3]],
  [0x7d, ['Or', 3]],
  [0x86, ['Notify', 2]],
  [0x92, ['LNot', 1]],
  [0x93, ['LEqual', 2]],
  [0xa4, ['Return', 1]],
])

/** Where a reader is and where it must stop. */
class Cursor {
  at = 0
  readonly bytes: Uint8Array

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }

  get isAtEnd(): boolean {
    return this.at === this.bytes.length
  }

  peek(): number {
    const byte = this.bytes[this.at]
    if (byte === undefined) throw new Error(`AML ends within a term, at ${this.at}`)
    return byte
  }

  byte(): number {
    const byte = this.peek()
    this.at++
    return byte
  }

  take(length: number): Uint8Array {
    if (this.at + length > this.bytes.length) {
      throw new Error(`AML: ${length} bytes at ${this.at} leave the ${this.bytes.length} there are`)
    }
    this.at += length
    return this.bytes.subarray(this.at - length, this.at)
  }

  unsigned(length: number): bigint {
    return this.take(length).reduceRight((sum, byte) => sum * 256n + BigInt(byte), 0n)
  }

  pkgLength(): number {
    const lead = this.byte()
    const extra = lead >> 6
    if (extra === 0) return lead & 0x3f
    if ((lead & 0x30) !== 0) throw new Error('AML: reserved bits of a PkgLength are set')
    return (lead & 0x0f) + 16 * Number(this.unsigned(extra))
  }

  /** The content that a PkgLength, which counts itself, announces. */
  packaged(): Cursor {
    const start = this.at
    const length = this.pkgLength()
    return new Cursor(this.take(start + length - this.at))
  }

  segment(): string {
    const text = String.fromCharCode(...this.take(4))
    if (!/^[A-Z_][A-Z0-9_]{3}$/.test(text)) throw new Error(`AML: ${text} is no name segment`)
    return text
  }

  name(): string {
    let path = ''
    while (this.peek() === 0x5c || this.peek() === 0x5e) path += String.fromCharCode(this.byte())
    return path + Array.from({ length: this.#segmentCount() }, () => this.segment()).join('.')
  }

  #segmentCount(): number {
    const lead = this.peek()
    if (lead !== 0x00 && lead !== 0x2e && lead !== 0x2f) return 1
    this.byte()
    if (lead === 0x00) return 0
    return lead === 0x2e ? 2 : this.byte()
  }
}

/** Decodes a list of terms, all of it. */
export function decodeAml(bytes: Uint8Array): AmlTerm[] {
  return terms(new Cursor(bytes))
}

/** Decodes a PkgLength that fills `bytes`. */
export function decodePkgLength(bytes: Uint8Array): number {
  const cursor = new Cursor(bytes)
  const length = cursor.pkgLength()
  if (!cursor.isAtEnd) throw new Error('AML: bytes behind the PkgLength')
  return length
}

function terms(cursor: Cursor): AmlTerm[] {
  const list: AmlTerm[] = []
  while (!cursor.isAtEnd) list.push(term(cursor))
  return list
}

function term(cursor: Cursor): AmlTerm {
  const lead = cursor.peek()
  if (lead === 0x5c || lead === 0x5e || lead === 0x2e || lead === 0x2f || isNameStart(lead)) {
    return ['Reference', cursor.name()]
  }
  cursor.byte()
  for (const [first, count, name] of REGISTERS) {
    if (lead >= first && lead < first + count) return [name, lead - first]
  }
  const operator = OPERATORS.get(lead)
  if (operator) {
    const [name, count] = operator
    return [name, ...Array.from({ length: count }, () => term(cursor))]
  }
  return lead === 0x5b ? extendedTerm(cursor) : plainTerm(lead, cursor)
}

function plainTerm(lead: number, cursor: Cursor): AmlTerm {
  switch (lead) {
    case 0x00:
    case 0x01:
      return ['Integer', BigInt(lead)]
    case 0x0a:
      return ['Integer', cursor.unsigned(1)]
    case 0x0b:
      return ['Integer', cursor.unsigned(2)]
    case 0x0c:
      return ['Integer', cursor.unsigned(4)]
    case 0x0e:
      return ['Integer', cursor.unsigned(8)]
    case 0x0d:
      return ['String', text(cursor)]
    case 0x08:
      return ['Name', cursor.name(), term(cursor)]
    case 0x8a:
      return ['CreateDWordField', term(cursor), term(cursor), cursor.name()]
    case 0x10:
      return block('Scope', cursor.packaged(), (body) => [body.name()])
    case 0x14:
      return block('Method', cursor.packaged(), (body) => [body.name(), body.byte()])
    case 0xa0:
      return block('If', cursor.packaged(), (body) => [term(body)])
    case 0xa1:
      return block('Else', cursor.packaged(), () => [])
    case 0x11:
      return bufferTerm(cursor.packaged())
    case 0x12:
      return packageTerm('Package', cursor.packaged(), (body) => BigInt(body.byte()))
    case 0x13:
      return packageTerm('VarPackage', cursor.packaged(), (body) => integerOf(term(body)))
    default:
      throw new Error(`AML: operator 0x${lead.toString(16)} is not expected here`)
  }
}

function extendedTerm(cursor: Cursor): AmlTerm {
  const code = cursor.byte()
  if (code === 0x82) return block('Device', cursor.packaged(), (body) => [body.name()])
  if (code === 0x80) {
    return ['OperationRegion', cursor.name(), cursor.byte(), term(cursor), term(cursor)]
  }
  if (code === 0x81) return fieldTerm(cursor.packaged())
  throw new Error(`AML: operator 0x5b 0x${code.toString(16)} is not expected here`)
}

function block(name: string, body: Cursor, head: (body: Cursor) => unknown[]): AmlTerm {
  return [name, ...head(body), terms(body)]
}

function bufferTerm(body: Cursor): AmlTerm {
  const size = integerOf(term(body))
  const content = body.take(body.bytes.length - body.at)
  if (BigInt(content.length) !== size) throw new Error('AML: a buffer is not as long as it says')
  return ['Buffer', Uint8Array.from(content)]
}

function packageTerm(name: string, body: Cursor, count: (body: Cursor) => bigint): AmlTerm {
  const announced = count(body)
  const elements = terms(body)
  if (BigInt(elements.length) !== announced) throw new Error('AML: wrong number of elements')
  return [name, elements]
}

function fieldTerm(body: Cursor): AmlTerm {
  const name = body.name()
  const flags = body.byte()
  const elements: unknown[] = []
  while (!body.isAtEnd) {
    if (body.peek() === 0) {
      body.byte()
      elements.push([null, body.pkgLength()])
    } else elements.push([body.segment(), body.pkgLength()])
  }
  return ['Field', name, flags, elements]
}

function text(cursor: Cursor): string {
  let result = ''
  for (let byte = cursor.byte(); byte !== 0; byte = cursor.byte()) {
    result += String.fromCharCode(byte)
  }
  return result
}

function integerOf(value: AmlTerm): bigint {
  if (value[0] !== 'Integer') throw new Error(`AML: ${value[0]} where an integer must be`)
  return value[1] as bigint
}

function isNameStart(byte: number): boolean {
  return (byte >= 0x41 && byte <= 0x5a) || byte === 0x5f
}
