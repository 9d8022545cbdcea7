// Leaves a guest to itself.
export {}
