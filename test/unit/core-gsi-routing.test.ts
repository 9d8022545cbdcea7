// Routes in words and as the kernel's table has them; the draft that an update changes.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeRoute, encodeRoute, type GsiRoute } from '../../src/core/interrupts/gsi-route.js'
import { GsiRoutes } from '../../src/core/interrupts/gsi-routing.js'
import { codeOf } from '../helpers/thrown.js'

const uint32 = fc.integer({ min: 0, max: 0xffff_ffff })
const messages = { address_lo: uint32, address_hi: uint32, data: uint32 }
const anyRoute: fc.Arbitrary<GsiRoute> = fc.oneof(
  fc.record({ type: fc.constant('pic'), pin: fc.integer({ min: 0, max: 15 }) }),
  fc.record({ type: fc.constant('ioapic'), pin: fc.integer({ min: 0, max: 23 }) }),
  fc.record({ type: fc.constant('msi'), ...messages }),
  fc.record({ type: fc.constant('msi'), devid: uint32, ...messages }),
  fc.record({
    type: fc.constant('hypervSynic'),
    vcpu: uint32,
    sint: fc.integer({ min: 0, max: 15 }),
  }),
  fc.record({ type: fc.constant('xen'), port: uint32, vcpu: uint32, priority: uint32 }),
)

describe('a route', () => {
  test('comes back from the kernel’s words', () => {
    fc.assert(
      fc.property(anyRoute, uint32, (route, gsi) => {
        const entry = encodeRoute(gsi, route)
        expect(entry.gsi).toBe(gsi)
        expect(decodeRoute(entry)).toEqual(route)
      }),
    )
  })

  test('to a pin from 8 on leads to the second PIC', () => {
    expect(encodeRoute(9, { type: 'pic', pin: 9 }).u.irqchip).toEqual({ irqchip: 1, pin: 1 })
  })

  test('to nowhere is refused', () => {
    for (const route of [
      { type: 'pic', pin: 16 },
      { type: 'ioapic', pin: 24 },
      { type: 'hypervSynic', vcpu: 0, sint: 16 },
    ] as const) {
      expect(codeOf(() => encodeRoute(0, route))).toBe('ERR_OUT_OF_RANGE')
    }
    expect(codeOf(() => encodeRoute(0, { type: 'none' } as never))).toBe('ERR_INVALID_ARG_TYPE')
    expect(codeOf(() => encodeRoute(0, null as never))).toBe('ERR_INVALID_ARG_TYPE')
  })
})

describe('a draft', () => {
  const ioapic = (pin: number) => ({ type: 'ioapic', pin }) as const

  test('leaves what it was made from as it was', () => {
    const before = new Map([[4, [ioapic(4)]]])
    const draft = new GsiRoutes(before)
    draft.set(4, ioapic(5)).set(30, ioapic(6)).delete(4)
    expect([...before]).toEqual([[4, [ioapic(4)]]])
    expect([...draft.map]).toEqual([[30, [ioapic(6)]]])
    expect(draft.clear().map.size).toBe(0)
  })

  test('keeps several places of one GSI in their order', () => {
    const draft = new GsiRoutes(new Map()).set(4, { type: 'pic', pin: 4 }, ioapic(4))
    expect(draft.get(4)).toEqual([{ type: 'pic', pin: 4 }, ioapic(4)])
    expect(draft.get(5)).toEqual([])
  })

  test('finds the first free GSI above the pins, until there is none', () => {
    const draft = new GsiRoutes(new Map())
    expect(draft.free()).toBe(24)
    draft.set(24, ioapic(0)).set(26, ioapic(0))
    expect(draft.free()).toBe(25)
    for (let gsi = 24; gsi < 4096; gsi++) draft.set(gsi, ioapic(0))
    expect(codeOf(() => draft.free())).toBe('ERR_OUT_OF_RANGE')
    expect(codeOf(() => draft.set(4096, ioapic(0)))).toBe('ERR_OUT_OF_RANGE')
  })
})
