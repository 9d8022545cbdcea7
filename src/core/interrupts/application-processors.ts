// Starting application processors from outside the guest, as the bootstrap processor's INIT and
// startup IPIs do from inside.

import { KVM_MP_STATE_SIPI_RECEIVED, KVM_VCPUEVENT_VALID_SIPI_VECTOR } from '../../uapi/index.js'
import { encodeMsi, type MsiMessage, startupVector } from '../../x86/index.js'
import { KvmError } from '../errors.js'
import { invalidArgType, list, object } from '../validate.js'
import { Vcpu } from '../vcpu.js'
import type { Vm } from '../vm.js'

/** How {@link startApplicationProcessors} reaches them. */
export interface StartProcessorsOptions {
  /**
   * - `'mpState'` (default): by their state, `KVM_MP_STATE_SIPI_RECEIVED`. They must not be running;
   *   the rest of their state stays as it is.
   * - `'ipi'`: by an INIT and a startup message to their APIC ids, which reset them. They may be
   *   running, or wait on threads of their own. Ids above 255 need KVM_X2APIC_API_USE_32BIT_IDS
   *   (`KVM_CAP_X2APIC_API`): without it their low 8 bits count.
   */
  by?: 'mpState' | 'ipi'
}

/** Delivery mode "startup", which KVM takes in a message although devices may not send it. */
const STARTUP = 0x4600

/**
 * Starts application processors: each begins at `entry` in real mode, with CS the address divided by
 * 16 and IP 0, as after INIT and a startup IPI (SIPI) with the vector of that page. They run when
 * they are run ({@link Vcpu.run}, {@link Vcpu.start}), before or after this.
 *
 * A processor that shall begin elsewhere, in long mode say, needs none of this: set its registers
 * and its state to runnable (`vcpu.setMpState(KVM_MP_STATE_RUNNABLE)`).
 *
 * @param entry Guest-physical address of the code, a multiple of 4096 below 1 MiB.
 * @capability KVM_CAP_MP_STATE and KVM_CAP_VCPU_EVENTS, or KVM_CAP_SIGNAL_MSI (`'ipi'`)
 * @throws KvmError `EINVAL` without LAPICs in the kernel, `ERR_KVM_BUSY` for one that is running
 *   (`'mpState'`), `ENXIO` when no LAPIC has the id (`'ipi'`).
 */
export function startApplicationProcessors(
  vcpus: readonly Vcpu[],
  entry: number,
  options: StartProcessorsOptions = {},
): void {
  const vector = startupVector(entry)
  const { by = 'mpState' } = object(options, 'options')
  const processors = list(vcpus, 'vcpus')
  for (const vcpu of processors) Vcpu.handleOf(vcpu)
  if (by === 'mpState') for (const vcpu of processors) setSipiReceived(vcpu, vector)
  else if (by === 'ipi') sendInitAndSipi(processors, vector)
  else throw invalidArgType('options.by', "'mpState' or 'ipi'", by)
}

function setSipiReceived(vcpu: Vcpu, vector: number): void {
  const flags = KVM_VCPUEVENT_VALID_SIPI_VECTOR
  vcpu.setVcpuEvents({ ...vcpu.getVcpuEvents(), flags, sipi_vector: vector })
  vcpu.setMpState(KVM_MP_STATE_SIPI_RECEIVED)
}

/** All INITs first: resetting takes its time. */
function sendInitAndSipi(vcpus: readonly Vcpu[], vector: number): void {
  for (const vcpu of vcpus) {
    const init = encodeMsi({ destination: vcpu.id, vector: 0, delivery: 'init' }, 'x2apic')
    send(vcpu.vm, vcpu.id, init)
  }
  for (const vcpu of vcpus) {
    const message = encodeMsi({ destination: vcpu.id, vector }, 'x2apic')
    send(vcpu.vm, vcpu.id, { ...message, data: STARTUP + vector })
  }
}

// KERNEL: 6.18 may find no LAPIC for an id while those of other vCPUs, on their threads, are reset.
const TRIES = 100
const pause = new Int32Array(new SharedArrayBuffer(4))

function send(vm: Vm, vcpuId: number, message: MsiMessage): void {
  for (let i = 0; i < TRIES; i++) {
    if (vm.signalMsi(message) > 0) return
    Atomics.wait(pause, 0, 0, 1)
  }
  const reason = 'no LAPIC has this id, or it takes no message (ids of 32 bits: KVM_CAP_X2APIC_API)'
  const details = { ioctl: 'KVM_SIGNAL_MSI', vcpuId, reason }
  throw new KvmError('ENXIO', 6, 'no such device or address', details)
}
