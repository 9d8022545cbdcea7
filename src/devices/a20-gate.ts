// Address line 20, which the keyboard controller and system control port A both gate.

/**
 * The state of the A20 gate, shared by the devices that switch it. It is only remembered: KVM does
 * not wrap addresses at 1 MiB, so memory behaves as if the gate were always open.
 */
export interface A20Gate {
  enabled: boolean
}
