// The local APIC's registers in the 1024 bytes that KVM_GET_LAPIC gives and KVM_SET_LAPIC takes.

import { LAPIC_REGISTERS, type LapicRegisterName } from './lapic-registers.js'
import { checkInteger, outOfRange } from './out-of-range.js'

/** Size of `kvm_lapic_state.regs`, in bytes (KVM_APIC_REG_SIZE). */
export const LAPIC_STATE_SIZE = 0x400

/**
 * A view of `kvm_lapic_state.regs`. It copies nothing: reads and writes go to the bytes given.
 * Every register is 32 bits wide, at 16-byte strides. Source: KVM API, KVM_GET_LAPIC.
 */
export class LapicState {
  /** The bytes looked at. */
  readonly bytes: Uint8Array
  readonly #view: DataView

  /**
   * @param bytes the 1024 bytes of `regs`, all zero by default
   * @throws RangeError (`ERR_OUT_OF_RANGE`) for another size
   */
  constructor(bytes: Uint8Array = new Uint8Array(LAPIC_STATE_SIZE)) {
    if (bytes.length !== LAPIC_STATE_SIZE) {
      throw outOfRange('bytes.length', `${LAPIC_STATE_SIZE}`, bytes.length)
    }
    this.bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  /** Reads a register. */
  get(name: LapicRegisterName): number {
    return this.#view.getUint32(LAPIC_REGISTERS[name].offset, true)
  }

  /**
   * Writes a register.
   *
   * @throws RangeError (`ERR_OUT_OF_RANGE`) for more than 32 bits
   */
  set(name: LapicRegisterName, value: number): void {
    checkInteger('value', value, 0, 0xffffffff)
    this.#view.setUint32(LAPIC_REGISTERS[name].offset, value, true)
  }

  /**
   * The APIC identifier.
   *
   * @param format `'x2apic'` when the vCPU is in x2APIC mode and KVM_CAP_X2APIC_API was enabled
   * with KVM_X2APIC_API_USE_32BIT_IDS; otherwise KVM keeps the low 8 bits in the xAPIC's place
   */
  id(format: 'xapic' | 'x2apic'): number {
    return format === 'x2apic' ? this.get('APICID') : this.get('APICID') >>> 24
  }

  /** Sets the APIC identifier; see `id`. */
  setId(id: number, format: 'xapic' | 'x2apic'): void {
    checkInteger('id', id, 0, format === 'x2apic' ? 0xffffffff : 0xff)
    this.set('APICID', format === 'x2apic' ? id : id * 0x1000000)
  }

  /** Both halves of the interrupt command; KVM keeps them apart in x2APIC mode too. */
  icr(): bigint {
    return BigInt(this.get('ICR')) + (BigInt(this.get('ICR2')) << 32n)
  }

  /** The vectors set in one of the 256-bit registers, ascending. */
  vectors(register: 'ISR' | 'TMR' | 'IRR'): number[] {
    return Array.from({ length: 256 }, (_, vector) => vector).filter((vector) =>
      this.hasVector(register, vector),
    )
  }

  /**
   * Whether a vector is in service (ISR), level-triggered (TMR) or requested (IRR).
   *
   * @throws RangeError (`ERR_OUT_OF_RANGE`)
   */
  hasVector(register: 'ISR' | 'TMR' | 'IRR', vector: number): boolean {
    return (
      ((this.#view.getUint32(vectorOffset(register, vector), true) >>> (vector % 32)) & 1) === 1
    )
  }

  /** Sets or clears a vector in one of the 256-bit registers. */
  setVector(register: 'ISR' | 'TMR' | 'IRR', vector: number, on = true): void {
    const offset = vectorOffset(register, vector)
    const old = this.#view.getUint32(offset, true)
    const mask = 1 << (vector % 32)
    this.#view.setUint32(offset, on ? old | mask : old & ~mask, true)
  }
}

function vectorOffset(register: 'ISR' | 'TMR' | 'IRR', vector: number): number {
  checkInteger('vector', vector, 0, 255)
  return LAPIC_REGISTERS[`${register}0`].offset + Math.floor(vector / 32) * 16
}
