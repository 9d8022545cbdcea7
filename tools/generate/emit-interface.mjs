// The TypeScript interface of a record, with a comment for each field.

import { fieldType } from './model.mjs'
import { doc } from './text.mjs'

/**
 * @typedef {import('./records.mjs').Field} Field
 * @typedef {import('./model.mjs').Shape} Shape
 * @typedef {import('./emit-scope.mjs').Scope} Scope
 */

/** Text of the interfaces. */
export class InterfaceEmitter {
  /** @param {Scope} scope */
  constructor(scope) {
    this.scope = scope
  }

  /** @param {Shape} shape */
  interface(shape) {
    const { record } = shape
    const lines = [doc(this.#summary(shape))]
    lines.push(`export interface ${shape.type} {`)
    for (const field of shape.plain) {
      lines.push(doc(fieldNote(field), '  '), `  ${field.name}: ${this.#type(field)}`)
    }
    for (const { fields } of shape.unions) {
      for (const field of fields) {
        lines.push(doc(`${fieldNote(field)} One member of a union.`, '  '))
        lines.push(`  ${field.name}?: ${this.#type(field)}`)
      }
    }
    if (shape.tag) {
      lines.push(doc(`All ${record.size} bytes, where no member is known to apply.`, '  '))
      lines.push('  raw?: Uint8Array')
    }
    lines.push('}')
    return lines.join('\n')
  }

  /** @param {Field} field */
  #type(field) {
    if (field.isRecord) this.scope.used.add(`${field.type} `)
    return fieldType(field)
  }

  /** @param {Shape} shape */
  #summary({ record, tag, unions, tail }) {
    const { name, kind, header, size } = record
    const top = name.split('.')[0]
    const what =
      name === top
        ? `\`${kind} ${name}\``
        : `\`${name.slice(top.length + 1)}\` of \`struct ${top}\``
    const parts = [`${what} (${header}), ${size} bytes.`]
    const users = this.scope.users.get(name)
    if (users) parts.push(`Used by ${users.join(', ')}.`)
    if (tag) parts.push(`A union: \`${tag.by}\` beside it selects the member.`)
    else if (unions.some((union) => union.tag)) {
      parts.push(`\`${unions[0].tag?.by}\` selects the member of its union.`)
    } else if (unions.length > 0) {
      parts.push(
        'Decoding gives every member of its union; encoding takes one, or several that agree.',
      )
    }
    if (tail) parts.push(`Followed by the flexible array \`${tail.name}\`.`)
    return parts.join(' ')
  }
}

/** @param {Field} field */
function fieldNote(field) {
  const place = field.bits
    ? `bits ${field.bits.shift}..${field.bits.shift + field.bits.width - 1} of the byte at ${field.offset}`
    : `at ${field.offset}`
  const type = field.isRecord
    ? `\`${field.type}\``
    : field.type === 'pointer'
      ? 'host address'
      : field.type
  const dims = field.dims.map((count) => `[${count}]`).join('')
  return `${type}${dims} ${place}.`
}
