// Standard output, made where something is printed: for `node-kvm run` that is after the guest has begun.

let stdout: NodeJS.WriteStream | undefined

/** Standard output. A reader that has seen enough, such as `head`, is no failure. */
export function standardOutput(): NodeJS.WriteStream {
  if (stdout !== undefined) return stdout
  stdout = process.stdout
  return stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    process.exit()
  })
}
