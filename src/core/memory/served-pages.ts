// Whether any guest RAM is brought by this thread's JavaScript, so that touching it here could mean to
// wait for oneself. Looked at by every accessor: a field of an object that never changes its shape.

/** Userfaults of this thread whose pages JavaScript brings. */
export const servedHere = { count: 0 }
