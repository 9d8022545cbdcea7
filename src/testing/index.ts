// The harness for hardware-feature tests. Nothing of it is public yet.

export {}
