// Exceptions and their error codes in words.

import { describe, expect, it } from 'vitest'
import {
  describeException,
  describePageFault,
  describeSelectorError,
} from '../../src/x86/error-codes.js'
import { describeVector, EXCEPTIONS, exceptionByVector } from '../../src/x86/exceptions.js'

describe('exceptions', () => {
  it('are unique by vector and mnemonic', () => {
    expect(new Set(EXCEPTIONS.map((e) => e.vector)).size).toBe(EXCEPTIONS.length)
    expect(new Set(EXCEPTIONS.map((e) => e.mnemonic)).size).toBe(EXCEPTIONS.length)
    for (const e of EXCEPTIONS) expect(exceptionByVector(e.vector)).toBe(e)
  })

  // SDM vol. 3A table 6-1 for Intel's, APM vol. 2 table 8-1 for AMD's.
  it('push an error code where the manuals say so', () => {
    const withCode = EXCEPTIONS.filter((e) => e.hasErrorCode).map((e) => e.vector)
    expect(withCode).toEqual([8, 10, 11, 12, 13, 14, 17, 21, 29, 30])
  })

  it('have names only where they exist', () => {
    expect(describeVector(14)).toBe('#PF')
    expect(describeVector(0x20)).toBe('vector 0x20')
    expect(exceptionByVector(15)).toBeUndefined()
  })
})

describe('error codes', () => {
  it.each([
    [0, 'supervisor read, not present'],
    [2, 'supervisor write, not present'],
    [6, 'user write, not present'],
    [7, 'user write, protection violation'],
    [0x11, 'supervisor fetch, protection violation'],
    [0xb, 'supervisor write, reserved bit set'],
    [0x25, 'user read, protection key'],
    [0x47, 'user write of a shadow stack, protection violation'],
    [0x8000_0007, 'user write, RMP check'],
  ])('#PF 0x%s is %s', (code, words) => {
    expect(describePageFault(code)).toBe(words)
  })

  it.each([
    [0, 'none'],
    [1, 'none, while an external event was delivered'],
    [0x18, 'GDT entry 3 (selector 0x18)'],
    [0x1c, 'LDT entry 3 (selector 0x1c)'],
    [0x72, 'IDT gate of #PF'],
    [0x103, 'IDT gate of vector 0x20, while an external event was delivered'],
  ])('selector error %s is %s', (code, words) => {
    expect(describeSelectorError(code)).toBe(words)
  })

  it('belong to their exception', () => {
    expect(describeException(14, 4n)).toBe('#PF (user read, not present)')
    expect(describeException(13, 0x18)).toBe('#GP (GDT entry 3 (selector 0x18))')
    expect(describeException(8, 0)).toBe('#DF (error code 0x0)')
    expect(describeException(6)).toBe('#UD')
  })
})
