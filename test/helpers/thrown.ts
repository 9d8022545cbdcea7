/** What `action` throws; fails when it does not. */
export function thrownBy(action: () => unknown): unknown {
  try {
    action()
  } catch (error) {
    return error
  }
  throw new Error('expected an exception, but nothing was thrown')
}

/** The `code` of what `action` throws. */
export function codeOf(action: () => unknown): unknown {
  return (thrownBy(action) as { code?: unknown }).code
}

/** The `code` of what a promise rejects with. */
export async function rejectionCodeOf(promise: Promise<unknown>): Promise<unknown> {
  const error = await promise.then(
    () => {
      throw new Error('expected a rejection, but the promise was fulfilled')
    },
    (reason: unknown) => reason,
  )
  return (error as { code?: unknown }).code
}
