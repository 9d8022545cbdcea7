// From clang's syntax tree to plain records: every struct and union with its fields, anonymous
// members folded into their parent. Offsets and sizes are asked of the compiler, not computed.

import { byteFields, foreignStructs, isForeign, isPadding, numberFields } from './facts.mjs'

/**
 * @typedef {object} Field
 * @property {string} name
 * @property {number} offset Bytes from the start of the record that holds it.
 * @property {number} size Bytes in all; 0 for a flexible array.
 * @property {string} type `u8` … `i64`, `pointer`, or the C name of a record.
 * @property {boolean} isRecord
 * @property {number[]} dims Array dimensions, outermost first.
 * @property {boolean} flexible
 * @property {number} [group] Number of the anonymous union it belongs to.
 * @property {{ shift: number, width: number }} [bits]
 * @property {boolean} number A 64-bit field that is a JavaScript number.
 * @property {boolean} padding
 *
 * @typedef {object} Record
 * @property {string} name C name; nested records have their path, e.g. `kvm_run.io`.
 * @property {'struct' | 'union'} kind
 * @property {string} header
 * @property {number} size
 * @property {number} align
 * @property {Field[]} fields
 */

const scalarTypes = new Map(
  Object.entries({
    char: 'u8',
    'signed char': 'i8',
    'unsigned char': 'u8',
    short: 'i16',
    'unsigned short': 'u16',
    int: 'i32',
    'unsigned int': 'u32',
    long: 'i64',
    'unsigned long': 'u64',
    'long long': 'i64',
    'unsigned long long': 'u64',
    __u8: 'u8',
    __s8: 'i8',
    __u16: 'u16',
    __s16: 'i16',
    __u32: 'u32',
    __s32: 'i32',
    __u64: 'u64',
    __s64: 'i64',
  }),
)

/** Members of kvm_run's union that only other architectures fill. */
const foreignMembers = new Set([
  'iocsr_io',
  's390_sieic',
  's390_reset_flags',
  's390_ucontrol',
  'dcr',
  'osi',
  'papr_hcall',
  's390_tsch',
  'epr',
  's390_stsi',
  'arm_nisv',
  'riscv_sbi',
  'riscv_csr',
  'arm_sea',
])

/**
 * Puts the header's name on each top-level declaration: clang prints a file only where it changes.
 * @param {any} tree
 */
export function attributeHeaders(tree) {
  let file = ''
  /** @param {any} node */
  const visit = (node) => {
    for (const [key, value] of Object.entries(node)) {
      if (key === 'includedFrom') continue
      if (key === 'file') file = value
      else if (value && typeof value === 'object') visit(value)
    }
  }
  for (const declaration of tree.inner) {
    visit(declaration.loc ?? {})
    declaration.header = /((?:linux|asm)\/kvm(?:_para)?\.h)$/.exec(file)?.[1]
    visit({ ...declaration, loc: undefined })
  }
}

/** Collects declarations, then asks the compiler for places and sizes. */
class Collector {
  constructor() {
    /** @type {Record[]} */
    this.records = []
    /** @type {{ expression: string, assign: (value: number) => void }[]} */
    this.questions = []
  }

  /** @param {string} expression @param {(value: number) => void} assign */
  ask(expression, assign) {
    this.questions.push({ expression, assign })
  }

  /**
   * @param {any} declaration @param {string} name @param {string} header
   * @param {{ struct: string, path: string }} place How C reaches an instance.
   * @returns {Record}
   */
  record(declaration, name, header, place) {
    /** @type {Record} */
    const record = { name, kind: declaration.tagUsed, header, size: 0, align: 0, fields: [] }
    const instance = place.path
      ? `((struct ${place.struct} *)0)->${place.path}`
      : `*(struct ${place.struct} *)0`
    this.ask(`sizeof(${instance})`, (value) => {
      record.size = value
    })
    this.ask(`__alignof__(${instance})`, (value) => {
      record.align = value
    })
    this.#fields(declaration, record, place, undefined)
    // After its nested records, so that a record always follows what it is made of.
    this.records.push(record)
    return record
  }

  /** @param {any} declaration @param {Record} record @param {{ struct: string, path: string }} place @param {number | undefined} group */
  #fields(declaration, record, place, group) {
    let nested
    for (const child of declaration.inner ?? []) {
      if (child.kind === 'RecordDecl') nested = child
      if (child.name?.startsWith('__empty_')) continue
      if (child.kind !== 'FieldDecl') continue
      const anonymous = /\((anonymous|unnamed)/.test(child.type.qualType)
      if (!child.name) this.#fold(nested, record, place, group)
      else if (!foreignMembers.has(child.name) && !/s390/.test(child.type.qualType)) {
        this.#field(child, anonymous ? nested : undefined, record, place, group)
      }
    }
  }

  /** An anonymous member: its fields become the parent's. @param {any} nested @param {Record} record @param {{ struct: string, path: string }} place @param {number | undefined} group */
  #fold(nested, record, place, group) {
    const inner = (nested.inner ?? []).filter(
      (/** @type {any} */ child) => child.kind === 'FieldDecl',
    )
    const isUnion = nested.tagUsed === 'union' && inner.length > 1
    if (isUnion && group !== undefined) throw new Error(`${record.name}: a union in a union`)
    const groups = new Set(record.fields.map((field) => field.group).filter((g) => g !== undefined))
    this.#fields(nested, record, place, isUnion ? groups.size : group)
  }

  /** @param {any} child @param {any} nested @param {Record} record @param {{ struct: string, path: string }} place @param {number | undefined} group */
  #field(child, nested, record, place, group) {
    const { base, dims, flexible } = parseType(child.type)
    const path = place.path ? `${place.path}.${child.name}` : child.name
    const key = `${record.name}.${child.name}`
    /** @type {Field} */
    const field = {
      name: child.name,
      offset: 0,
      size: 0,
      type: scalarTypes.get(base) ?? (base.endsWith('*') ? 'pointer' : base.replace('struct ', '')),
      isRecord: !scalarTypes.has(base) && !base.endsWith('*'),
      dims,
      flexible,
      ...(group === undefined ? {} : { group }),
      number: numberFields.has(key),
      padding: isPadding(key),
    }
    if (nested) {
      field.type = key
      const element = `${path}${dims.map(() => '[0]').join('')}`
      this.record(nested, key, record.header, { struct: place.struct, path: element })
    }
    if (byteFields.has(key)) toBytes(field)
    record.fields.push(field)
    if (child.isBitfield) {
      field.bits = { shift: 0, width: Number(child.inner[0].value) }
      return
    }
    // The base of a nested record is known only when the answers are in.
    const holder = place.path ? `__builtin_offsetof(struct ${place.struct}, ${place.path})` : '0'
    this.ask(`__builtin_offsetof(struct ${place.struct}, ${path}) - ${holder}`, (value) => {
      field.offset = value
    })
    if (!flexible) {
      this.ask(`sizeof(((struct ${place.struct} *)0)->${path})`, (value) => {
        field.size = value
      })
    }
  }
}

/** @param {Field} field */
function toBytes(field) {
  field.type = 'u8'
  field.dims = field.dims.map((count) => count * 4)
}

/** @param {{ qualType: string, desugaredQualType?: string }} type */
function parseType(type) {
  const text = type.qualType
  const [, base, suffix] = /^(.*?)\s*((?:\[\d*\])*)$/.exec(text) ?? []
  const sizes = [...suffix.matchAll(/\[(\d*)\]/g)].map((match) => match[1])
  const flexible = sizes[0] === '' || sizes[0] === '0'
  return { base, dims: (flexible ? sizes.slice(1) : sizes).map(Number), flexible }
}

/** Bit-fields have no offsetof: they follow the field before them, first bits lowest (x86-64 psABI). */
function placeBitFields(record) {
  let bit = 0
  for (const field of record.fields) {
    if (!field.bits) {
      bit = (field.offset + field.size) * 8
      continue
    }
    if (field.type !== 'u8') throw new Error(`${record.name}.${field.name}: only u8 bit-fields`)
    field.offset = bit >> 3
    field.bits.shift = bit & 7
    if (field.bits.shift + field.bits.width > 8) {
      throw new Error(`${record.name}.${field.name}: crosses a byte`)
    }
    field.size = 1
    bit += field.bits.width
  }
}

/** A union of nothing but flexible arrays is a tail of bytes whose format the record's head tells. */
function foldFlexibleUnions(records) {
  const tails = new Set(
    records.filter((r) => r.kind === 'union' && r.size === 0).map((r) => r.name),
  )
  for (const record of records) {
    for (const field of record.fields) {
      if (!tails.has(field.type)) continue
      Object.assign(field, { type: 'u8', isRecord: false, flexible: true, dims: [] })
    }
  }
  return records.filter((record) => !tails.has(record.name))
}

/** @param {Record[]} records */
function checkAlignment(records) {
  const widths = { u8: 1, i8: 1, u16: 2, i16: 2, u32: 4, i32: 4, u64: 8, i64: 8, pointer: 8 }
  const aligns = new Map(records.map((record) => [record.name, record.align]))
  for (const record of records) {
    for (const field of record.fields) {
      const align = aligns.get(field.type) ?? widths[/** @type {'u8'} */ (field.type)]
      if (align === undefined) throw new Error(`${record.name}.${field.name}: type ${field.type}`)
      if (field.offset % align !== 0 || record.align % align !== 0) {
        throw new Error(`${record.name}.${field.name} is packed: the codecs do not know that`)
      }
    }
  }
}

/**
 * Every record of the KVM headers that x86-64 uses, each after those it contains.
 * @param {import('./compiler.mjs').Compiler} compiler @param {any} tree
 * @returns {Record[]}
 */
export function readRecords(compiler, tree) {
  const collector = new Collector()
  for (const declaration of tree.inner) {
    const { kind, name, header, completeDefinition } = declaration
    if (kind !== 'RecordDecl' || !completeDefinition || !header || !name) continue
    if (isForeign(name) || foreignStructs.has(name)) continue
    collector.record(declaration, name, header, { struct: name, path: '' })
  }
  const answers = compiler.evaluate([...new Set(collector.questions.map((q) => q.expression))])
  for (const { expression, assign } of collector.questions) {
    const answer = answers.get(expression)
    if (!answer) throw new Error(`the compiler did not answer ${expression}`)
    assign(Number(answer.value))
  }
  for (const record of collector.records) placeBitFields(record)
  const records = foldFlexibleUnions(collector.records)
  checkAlignment(records)
  return records
}

/** Names of plain enumerators of the KVM headers. @param {any} tree @returns {{ name: string, header: string }[]} */
export function readEnumerators(tree) {
  return tree.inner
    .filter((/** @type {any} */ node) => node.kind === 'EnumDecl' && node.header)
    .flatMap((/** @type {any} */ node) =>
      node.inner
        .filter((/** @type {any} */ child) => child.kind === 'EnumConstantDecl')
        .map((/** @type {any} */ child) => ({ name: child.name, header: node.header })),
    )
}
