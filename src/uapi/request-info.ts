// What is known of one ioctl request; the table is in generated/requests.ts.

/** One ioctl request of KVM: its number, its argument and the fds it belongs to. */
export interface RequestInfo {
  /** Name in linux/kvm.h. */
  readonly name: string
  /** The ioctl request number, unsigned. */
  readonly request: number
  /** Bytes of the argument before any variable part; 0 where it is no pointer. */
  readonly size: number
  /** Whether the argument is nothing, a plain value, or a pointer to `size` bytes. */
  readonly argument: 'none' | 'value' | 'pointer'
  /** The kinds of fd that take it. */
  readonly scopes: readonly ('system' | 'vm' | 'vcpu' | 'device')[]
  /** C name of the argument's struct, a key of `layouts`; absent for a plain integer. */
  readonly struct?: string
  /** Capability that announces the request; absent where every KVM has it. */
  readonly capability?: string
  /** Of an argument of variable length: where its element count is and how large an element is. */
  readonly flex?: {
    /** Offset of the count, in bytes. */
    readonly countOffset: number
    /** Size of the count, in bytes. */
    readonly countSize: number
    /**
     * Size of an element, in bytes. An element of 1 whose count is `size` itself
     * (KVM_GET_NESTED_STATE) counts the whole argument.
     */
    readonly elementSize: number
    /** Bytes before the first element. */
    readonly headerSize: number
    /** Most elements the kernel takes; absent where no limit is known. */
    readonly max?: number
  }
  /** Whether the argument holds host addresses or fds, which only native code can fill. */
  readonly pointers: boolean
}
