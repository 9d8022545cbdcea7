// One route of an interrupt in words, and as the kernel's table has it.

import {
  KVM_IRQ_ROUTING_HV_SINT,
  KVM_IRQ_ROUTING_IRQCHIP,
  KVM_IRQ_ROUTING_MSI,
  KVM_IRQ_ROUTING_XEN_EVTCHN,
  KVM_IRQCHIP_IOAPIC,
  KVM_IRQCHIP_PIC_MASTER,
  KVM_IRQCHIP_PIC_SLAVE,
  KVM_MSI_VALID_DEVID,
  type KvmIrqRoutingEntry,
  type KvmIrqRoutingEntryU,
} from '../../uapi/index.js'
import type { MsiMessage } from '../../x86/index.js'
import { integer, invalidArgType, object } from '../validate.js'

/** Where an interrupt may lead. */
export type GsiRoute =
  /** A pin of the two PICs: 0-7 the first, 8-15 the second. */
  | { type: 'pic'; pin: number }
  /** A pin of the IOAPIC, 0-23. */
  | { type: 'ioapic'; pin: number }
  /**
   * A message, as `encodeMsi` of node-kvm/x86 makes it. Destinations above 255 need its format
   * `'x2apic'` and KVM_X2APIC_API_USE_32BIT_IDS (`KVM_CAP_X2APIC_API`).
   */
  | ({ type: 'msi'; devid?: number } & MsiMessage)
  /** A synthetic interrupt of Hyper-V: of the vCPU with this index, 0-15. */
  | { type: 'hypervSynic'; vcpu: number; sint: number }
  /** A Xen event channel; `priority` is KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL by default. */
  | { type: 'xen'; port: number; vcpu: number; priority?: number }

const XEN_PRIORITY_2LEVEL = 0xffff_ffff
const PINS_PER_PIC = 8

/** @internal An entry of `kvm_irq_routing`. */
export function encodeRoute(gsi: number, route: GsiRoute): KvmIrqRoutingEntry {
  object(route, 'route')
  switch (route.type) {
    case 'pic':
      return pin(gsi, ...picPin(route.pin))
    case 'ioapic':
      return pin(gsi, KVM_IRQCHIP_IOAPIC, integer(route.pin, 'route.pin', 0, 23))
    case 'msi':
      return msi(gsi, route)
    case 'hypervSynic':
      return entry(gsi, KVM_IRQ_ROUTING_HV_SINT, {
        hv_sint: { vcpu: route.vcpu, sint: integer(route.sint, 'route.sint', 0, 15) },
      })
    case 'xen': {
      const { port, vcpu, priority = XEN_PRIORITY_2LEVEL } = route
      return entry(gsi, KVM_IRQ_ROUTING_XEN_EVTCHN, { xen_evtchn: { port, vcpu, priority } })
    }
    default:
      throw invalidArgType(
        'route.type',
        "one of 'pic', 'ioapic', 'msi', 'hypervSynic', 'xen'",
        (route as { type: unknown }).type,
      )
  }
}

/** @internal The route that an entry says. */
export function decodeRoute({ type, flags, u }: KvmIrqRoutingEntry): GsiRoute {
  if (type === KVM_IRQ_ROUTING_IRQCHIP) return decodePin(u.irqchip!)
  if (type === KVM_IRQ_ROUTING_MSI) return decodeMsiRoute(flags, u.msi!)
  if (type === KVM_IRQ_ROUTING_HV_SINT) return { type: 'hypervSynic', ...u.hv_sint! }
  return { type: 'xen', ...u.xen_evtchn! }
}

function entry(gsi: number, type: number, u: KvmIrqRoutingEntryU, flags = 0): KvmIrqRoutingEntry {
  return { gsi, type, flags, u }
}

function pin(gsi: number, irqchip: number, number: number): KvmIrqRoutingEntry {
  return entry(gsi, KVM_IRQ_ROUTING_IRQCHIP, { irqchip: { irqchip, pin: number } })
}

function picPin(number: number): [irqchip: number, pin: number] {
  integer(number, 'route.pin', 0, 15)
  if (number < PINS_PER_PIC) return [KVM_IRQCHIP_PIC_MASTER, number]
  return [KVM_IRQCHIP_PIC_SLAVE, number - PINS_PER_PIC]
}

function msi(gsi: number, route: MsiMessage & { devid?: number }): KvmIrqRoutingEntry {
  const { address_lo, address_hi, data, devid } = route
  const flags = devid === undefined ? 0 : KVM_MSI_VALID_DEVID
  const u = { msi: { address_lo, address_hi, data, devid: devid ?? 0 } }
  return entry(gsi, KVM_IRQ_ROUTING_MSI, u, flags)
}

function decodePin({ irqchip, pin: number }: { irqchip: number; pin: number }): GsiRoute {
  if (irqchip === KVM_IRQCHIP_IOAPIC) return { type: 'ioapic', pin: number }
  return { type: 'pic', pin: irqchip === KVM_IRQCHIP_PIC_SLAVE ? number + PINS_PER_PIC : number }
}

function decodeMsiRoute(flags: number, message: MsiMessage & { devid?: number }): GsiRoute {
  const { address_lo, address_hi, data, devid = 0 } = message
  const plain = { type: 'msi', address_lo, address_hi, data } as const
  return flags % (2 * KVM_MSI_VALID_DEVID) < KVM_MSI_VALID_DEVID ? plain : { ...plain, devid }
}
