// Two machines at once in one process. Each rings the other's bell: what one writes to its port
// arrives as a byte on the other's serial port, until both have had enough.

import { Machine } from 'node-kvm'
import type { BusDevice } from 'node-kvm/devices'
import { assemble } from 'node-kvm/testing'

const gpa = 0x10_0000
const BALL_PORT = 0x500

/** Waits for a byte, adds one to it and plays it on; whoever has seen 9 or more powers off. */
const flat = assemble(
  `
  wait: mov dx, 0x3fd
        in al, dx
        test al, 1
        jz wait
        mov dx, 0x3f8
        in al, dx
        inc al
        mov dx, ${BALL_PORT}
        out dx, al
        cmp al, 9
        jb wait
        mov dx, 0x604
        mov ax, 0x2000
        out dx, ax
        hlt`,
  { bits: 32, origin: BigInt(gpa) },
).bytes

const create = () => Machine.create({ memory: '16M', boot: { flat, gpa, mode: 'protected' } })
await using left = await create()
await using right = await create()

/** What the guest writes to it goes to `other`. */
const racket = (name: string, other: Machine): BusDevice => ({
  name,
  read: () => 0,
  write: (_offset, _size, ball) => {
    console.log(`${name} plays ${ball}`)
    other.serial.write(Uint8Array.of(ball))
  },
})
left.ports.add(BALL_PORT, 1, racket('left', right))
right.ports.add(BALL_PORT, 1, racket('right', left))

left.serial.write(Uint8Array.of(0))
const ends = await Promise.all([left.run(), right.run()])
console.log(ends.map(({ reason }) => reason).join(', '))
