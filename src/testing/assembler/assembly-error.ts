/** Source that cannot be assembled; `code` is `ERR_KVM_ASSEMBLY`. */
export class AssemblyError extends SyntaxError {
  readonly code = 'ERR_KVM_ASSEMBLY'
  /** The statement at fault. */
  readonly statement: string

  /** @internal */
  constructor(problem: string, statement: string) {
    super(`${problem}\n  in: ${statement.trim()}`)
    this.name = 'AssemblyError'
    this.statement = statement.trim()
  }
}
