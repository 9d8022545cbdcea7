/**
 * Calls `condition` until it is true: for what the kernel does a little later on a thread of its own.
 * Fails after `timeoutMs`.
 */
export async function waitUntil(condition: () => boolean, timeoutMs = 10_000): Promise<void> {
  const end = performance.now() + timeoutMs
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not so within ${timeoutMs} ms: ${condition}`)
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}
