// StructView and the misuse errors.

import { describe, expect, it } from 'vitest'
import { invalidArgType, invalidArgValue, outOfRange, StructView } from '../../src/uapi/index.js'

describe('StructView', () => {
  it('sees one buffer at every width', () => {
    const view = new StructView(new ArrayBuffer(32), 8, 16)
    view.u64[1] = 0x8000_0001_ffff_fffen
    expect([view.u8[8], view.i8[8], view.u16[4], view.i16[4]]).toEqual([0xfe, -2, 0xfffe, -2])
    expect([view.u32[2], view.i32[2], view.u32[3]]).toEqual([0xffff_fffe, -2, 0x8000_0001])
    expect(view.i64[1]).toBe(0x8000_0001_ffff_fffen - (1n << 64n))
    expect(new Uint8Array(view.buffer)[16]).toBe(0xfe)
    expect([view.byteOffset, view.byteLength]).toEqual([8, 16])
  })

  it('allocates whole 64-bit words, and takes a buffer as long as it is', () => {
    expect(new StructView(12).byteLength).toBe(16)
    const odd = new StructView(new ArrayBuffer(13))
    expect([odd.byteLength, odd.u8.length, odd.u32.length, odd.u64.length]).toEqual([13, 13, 3, 1])
    expect(new StructView(0).byteLength).toBe(0)
  })

  it('sees shared memory', () => {
    const view = new StructView(new SharedArrayBuffer(8))
    view.u32[1] = 7
    expect(view.u64[0]).toBe(7n << 32n)
  })

  it.each([
    [[-1], 'ERR_OUT_OF_RANGE'],
    [[1.5], 'ERR_OUT_OF_RANGE'],
    [[Number.NaN], 'ERR_OUT_OF_RANGE'],
    [[new ArrayBuffer(16), 4], 'ERR_OUT_OF_RANGE'],
    [[new ArrayBuffer(16), -8], 'ERR_OUT_OF_RANGE'],
    [[new ArrayBuffer(16), 24], 'ERR_OUT_OF_RANGE'],
    [[new ArrayBuffer(16), 8, 9], 'ERR_OUT_OF_RANGE'],
    [[new ArrayBuffer(16), 0, -1], 'ERR_OUT_OF_RANGE'],
    [[new Uint8Array(8)], 'ERR_INVALID_ARG_TYPE'],
    [['16'], 'ERR_INVALID_ARG_TYPE'],
    [[null], 'ERR_INVALID_ARG_TYPE'],
  ])('refuses %j', (args, code) => {
    const make = () => Reflect.construct(StructView, args)
    expect(make).toThrow(expect.objectContaining({ code }))
  })
})

describe('misuse errors', () => {
  it('have the shape of Node’s own', () => {
    const type = invalidArgType('kvm_regs.rax', 'of type bigint', 5)
    expect(type).toBeInstanceOf(TypeError)
    expect(type.code).toBe('ERR_INVALID_ARG_TYPE')
    expect(type.message).toBe(
      'The "kvm_regs.rax" argument must be of type bigint. Received type number (5)',
    )
    const range = outOfRange('slot', 'an integer >= 0 and <= 7', 8n)
    expect(range).toBeInstanceOf(RangeError)
    expect(range.code).toBe('ERR_OUT_OF_RANGE')
    expect(range.message).toContain(
      '"slot" is out of range. It must be an integer >= 0 and <= 7. Received 8n',
    )
    expect(invalidArgValue('options', 'names two things')).toMatchObject({
      name: 'TypeError',
      code: 'ERR_INVALID_ARG_VALUE',
      message: 'The argument "options" names two things',
    })
  })

  it.each([
    [null, 'null'],
    [undefined, 'undefined'],
    [1n, 'type bigint (1n)'],
    ['a"b', 'type string ("a\\"b")'],
    [true, 'type boolean (true)'],
    [Symbol('s'), 'type symbol'],
    [[], 'an instance of Array'],
    [Object.create(null), 'an instance of Object'],
  ])('say what was received: %o', (value, text) => {
    expect(invalidArgType('x', 'of type object', value).message).toMatch(/Received .*/)
    expect(invalidArgType('x', 'of type object', value).message.endsWith(`Received ${text}`)).toBe(
      true,
    )
  })
})
