// What is shared by the emitters of one generated file.

import { pascal } from './text.mjs'

/** @typedef {import('./model.mjs').Shape} Shape */

/** The records known, the one being written, and what its text has used so far. */
export class Scope {
  /** @param {Map<string, Shape>} shapes @param {Map<string, string[]>} users Requests by struct. */
  constructor(shapes, users) {
    this.shapes = shapes
    this.users = users
    /** @type {Set<string>} */
    this.helpers = new Set()
    /** @type {Set<string>} Records used here that may live in another file. */
    this.used = new Set()
    /** @type {Shape | undefined} The record being written. */
    this.current = undefined
  }

  /** @param {string} name */
  helper(name) {
    this.helpers.add(name)
    return name
  }

  /** @param {string} record @param {string} prefix */
  other(record, prefix) {
    const name = `${prefix}${pascal(record)}`
    this.used.add(`${record} ${prefix}`)
    return name
  }

  /** The first line of every codec. @param {Shape} shape */
  checkPlace({ record }) {
    this.helper('checkPlace')
    return `  checkPlace(view, offset, ${record.size}, ${record.align - 1}, '${record.name}')`
  }
}
