// Description of a kernel structure; the table is in generated/layouts.ts.

/** Type of a field: a scalar, a host address, or another structure by its C name. */
export type FieldType =
  | 'u8'
  | 'i8'
  | 'u16'
  | 'i16'
  | 'u32'
  | 'i32'
  | 'u64'
  | 'i64'
  | 'pointer'
  | `struct:${string}`

/** Place and type of one field of a structure. */
export interface FieldLayout {
  /** Bytes from the start of the structure. */
  readonly offset: number
  /** Bytes in all, every element of an array included; 0 for a flexible array. */
  readonly size: number
  /** Type of the field or of its elements. */
  readonly type: FieldType
  /** Array dimensions, outermost first; absent for a single value. */
  readonly dims?: readonly number[]
  /** A flexible array: its length is told elsewhere. */
  readonly flexible?: boolean
  /** Fields of one structure with the same number share their place: an anonymous union. */
  readonly union?: number
  /** Of a bit-field: which bits of its byte it is. */
  readonly bits?: {
    /** Lowest bit within the byte at `offset`. */
    readonly shift: number
    /** Number of bits. */
    readonly width: number
  }
  /** A 64-bit field that is a JavaScript number: a guest-physical address, a size or a count. */
  readonly number?: boolean
  /** Padding or reserved: absent from the interface, encoded as zero. */
  readonly padding?: boolean
}

/** Layout of one structure or union of the KVM headers. */
export interface StructLayout {
  /** C name; nested ones have their path, e.g. `kvm_run.io`. */
  readonly name: string
  /** Name of the TypeScript interface, and of its codecs after `decode` and `encode`. */
  readonly typeName: string
  /** In a union every field starts at 0. */
  readonly kind: 'struct' | 'union'
  /** Header that defines it. */
  readonly header: string
  /** Bytes, as sizeof says. */
  readonly size: number
  /** Alignment in bytes. */
  readonly align: number
  /** What chooses among the members of the union that this is, or that is in it. */
  readonly select?: {
    /** The field that tells: of this structure, or of the one around this union. */
    readonly by: string
    /** The members that apply for each value of it. */
    readonly members: Readonly<Record<number, readonly string[]>>
  }
  /** The fields by name, in the header's order; those of anonymous members included. */
  readonly fields: Readonly<Record<string, FieldLayout>>
}
