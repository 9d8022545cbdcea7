// The two ends of a virtual cable: a network device and what it is plugged into. Both say no to a frame
// for which they have no room and tell when they have it again, so neither needs a queue without end.

/** The device's end, as its back end sees it. */
export interface NetPort {
  /**
   * Gives the guest a frame. False: the guest has no buffer for it, and {@link NetBackend.resume} will
   * tell when it has. The bytes are copied before the call returns.
   */
  receive(frame: Uint8Array): boolean
  /** The back end takes frames again, after {@link NetBackend.transmit} has said no. */
  resume(): void
  /** What the guest sees of the cable. */
  setLink(up: boolean): void
}

/** What a network device is plugged into: frames are Ethernet's, from the destination address on. */
export interface NetBackend {
  /** Plugs the device in; its other methods are called afterwards only. */
  connect(port: NetPort): void
  /**
   * Takes a frame from the guest. False: not now; it is offered again after {@link NetPort.resume}. The
   * bytes are the guest's memory's copy and belong to the back end.
   */
  transmit(frame: Uint8Array): boolean
  /** The guest has buffers again, after {@link NetPort.receive} has said no. */
  resume(): void
  /** Pulls the plug: nothing is called on the port afterwards. Idempotent. */
  close(): void
}
