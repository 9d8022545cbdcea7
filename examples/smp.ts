// A guest with four processors, each a thread of this process. They wake one another by INIT and
// SIPI, take timer interrupts from their APICs, and print through a serial port.

import { finished } from 'node:stream/promises'
import { GuestMemory, Kvm, type Vcpu } from 'node-kvm'
import { loadFlat } from 'node-kvm/boot'
import { DebugExit, handleIo, PortBus, Serial16550 } from 'node-kvm/devices'
import { image, layout } from './guests/smp.js'

const PROCESSORS = 4

/** Runs the guest to its end; returns what it gave to its exit port. */
export async function runSmpGuest(output: NodeJS.WritableStream): Promise<number> {
  using kvm = Kvm.open()
  using vm = kvm.createVm()
  vm.createIrqchip()

  using memory = GuestMemory.create(2 ** 20)
  vm.mapMemory(memory)
  const boot = loadFlat(memory, {
    image,
    gpa: layout.gpa,
    entry: layout.start,
    mode: 'long',
    stackPointer: 0x8_0000,
  })
  memory.writeU32(layout.parameters, PROCESSORS)
  memory.writeU32(layout.parameters + 4, 2_000_000) // APIC timer ticks of 1 ns: 2 ms

  const vcpus: Vcpu[] = []
  for (let id = 0; id < PROCESSORS; id++) {
    const vcpu = vm.createVcpu(id)
    vcpu.setCpuid2(kvm.getSupportedCpuid())
    vcpus.push(vcpu)
  }
  // The others wait for INIT and SIPI, as processors do after a reset.
  vcpus[0]!.updateSregs(boot.sregs)
  vcpus[0]!.updateRegs(boot.regs)

  const serial = new Serial16550()
  serial.output.pipe(output, { end: false })
  let status = -1
  const ports = new PortBus()
  ports.add(0x3f8, 8, serial)
  ports.add(
    0xf4,
    1,
    new DebugExit((value) => {
      status = value
      for (const vcpu of vcpus) vcpu.requestStop()
    }),
  )
  for (const vcpu of vcpus) {
    vcpu.start((exit) => {
      if (exit.type !== 'io') throw new Error(`processor ${vcpu.id}: unexpected exit ${exit.type}`)
      handleIo(ports, exit.data, exit.port, exit.size, exit.count, exit.direction)
    })
  }
  try {
    await Promise.all(vcpus.map((vcpu) => vcpu.join()))
    serial.close()
    await finished(serial.output)
    return status
  } finally {
    for (const vcpu of vcpus) vcpu.close()
  }
}
