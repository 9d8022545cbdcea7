/** This KVM cannot enter the mode; `code` is `ERR_KVM_MODE_UNSUPPORTED`. */
export class UnsupportedModeError extends Error {
  readonly code = 'ERR_KVM_MODE_UNSUPPORTED'
  readonly mode: string

  /** @internal */
  constructor(mode: string, options?: ErrorOptions) {
    super(
      `this KVM cannot run a guest in the mode '${mode}': it does not keep the registers`,
      options,
    )
    this.name = 'UnsupportedModeError'
    this.mode = mode
  }
}
