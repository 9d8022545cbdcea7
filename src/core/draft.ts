// Memory in which a struct is encoded before the kernel or the run page gets it. Encoding reads the
// user's objects, which may have getters, and a getter may call this very API: were everybody to
// encode in the one scratch memory, the kernel would see two half structs.

import { StructView } from '../uapi/index.js'

/** Room for the longest argument that is encoded: 256 CPUID leaves. */
const SIZE = 16 * 1024

const idle: StructView[] = []

/** Lends `use` memory that nobody else writes until it returns. */
export function withDraft<T>(use: (draft: StructView) => T): T {
  const draft = idle.pop() ?? new StructView(SIZE)
  try {
    return use(draft)
  } finally {
    idle.push(draft)
  }
}
