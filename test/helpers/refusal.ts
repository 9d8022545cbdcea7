import { expect } from 'vitest'
import { thrownBy } from './thrown.js'

/** A file that takes any ioctl. */
interface IoctlFile {
  unsafeIoctl(request: number, argument?: number | ArrayBuffer): number
}

/** The library misses the capability by name; the kernel, asked all the same, refuses the request. */
export function expectMissing(
  file: IoctlFile,
  capability: string,
  request: number,
  call: () => unknown,
): void {
  expect(thrownBy(call)).toMatchObject({ code: 'ERR_KVM_CAP_MISSING', capability })
  const refused = thrownBy(() => file.unsafeIoctl(request, new ArrayBuffer(4096)))
  expect(refused).toMatchObject({
    code: expect.stringMatching(/^(EINVAL|ENOTTY|EOPNOTSUPP|ENXIO)$/),
  })
}
