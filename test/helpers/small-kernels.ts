// ELF64 kernels of a few instructions, for tests of the machine and of `node-kvm run` on any KVM.

import { ELF_LOAD_GPA, makeElf } from './boot-images.js'

const ECHO = [
  '66baf903', //   mov dx, 0x3f9
  'b001', //       mov al, 1
  'ee', //         out dx, al         receive interrupts on: input may come
  '66baf803', //   mov dx, 0x3f8
  'b03e', //       mov al, '>'
  'ee', //         out dx, al
  '66ba0106', //   next: mov dx, 0x601   PM1a status, its second byte
  'ec', //         in al, dx
  'a801', //       test al, 1        PWRBTN_STS
  '7515', //       jnz pressed
  '66bafd03', //   mov dx, 0x3fd
  'ec', //         in al, dx
  'a801', //       test al, 1
  '74ee', //       jz next
  '66baf803', //   mov dx, 0x3f8
  'ec', //         in al, dx
  'ee', //         out dx, al
  '3c71', //       cmp al, 'q'
  '7409', //       je off
  'ebe2', //       jmp next
  '66baf803', //   pressed: mov dx, 0x3f8
  'b021', //       mov al, '!'
  'ee', //         out dx, al
  '66ba0406', //   off: mov dx, 0x604 PM1a control
  '66b80020', //   mov ax, 0x2000     SLP_EN, S5
  '66ef', //       out dx, ax
  'ebfe', //       jmp $
].join('')

function elf(code: string): Buffer {
  const data = Buffer.from(code, 'hex')
  return makeElf({
    entry: BigInt(ELF_LOAD_GPA),
    segments: [
      { type: 1, flags: 5, vaddr: BigInt(ELF_LOAD_GPA), paddr: BigInt(ELF_LOAD_GPA), data },
    ],
  })
}

/**
 * Prints `>` and echoes its serial port until it reads `q`, or the power button is pressed, for which it
 * prints `!`; then powers off through ACPI.
 */
export const echoKernel = elf(ECHO)

/** xor esp, esp; ud2: without an IDT, a triple fault. */
export const crashKernel = elf('31e40f0b')

/** jmp $ */
export const spinKernel = elf('ebfe')
