# The QEMU machine's part of level 1: the host's root file system over 9p, and virtio ports for output.

# Linux measures its TSC again a second after it started. KVM keeps for its guests what it found when it was loaded; is
# that more than 250 ppm below what is measured then, which a loaded host brings about, no TSC offset is applied to any
# guest: TSC deadlines do not come, and kvm-clock stands still.
settle_clock() {
  clock=/sys/devices/system/clocksource/clocksource0/current_clocksource
  for _ in $(seq 500); do
    grep -q tsc-early $clock || return
    usleep 10000
  done
}

# Writes go to memory: the host's files are not ours to change.
mount_root() {
  mkdir /host /rw
  mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose hostroot /host ||
    die 'cannot mount the host root'
  mount -t tmpfs tmpfs /rw
  mkdir /rw/upper /rw/work
  mount -t overlay -o lowerdir=/host,upperdir=/rw/upper,workdir=/rw/work overlay /root ||
    die 'cannot mount the overlay'
}

mount_out() {
  grep -qs labout /sys/bus/virtio/drivers/9pnet_virtio/*/mount_tag &&
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=mmap labout /lab/out
}

unmount_out() {
  sync
}

# KVM patches the kernel's code whenever the first VM comes or the last one goes, and the first vCPU
# without a LAPIC or with one that is off. QEMU's emulator (7.2) may keep what it translated on one
# processor while another patches: the breakpoint that stands there meanwhile then hits for ever, with
# interrupts off. So one of each is there as long as the machine runs, and before the command starts on
# another processor. Perl is part of every Debian.
hold_vms() {
  /usr/bin/perl -e '
    open(my $kvm, "+<", "/dev/kvm") or exit 1;
    for my $has_irqchip (0, 1) {
      my $vm_fd = ioctl($kvm, 0xae01, 0);          # KVM_CREATE_VM
      open(my $vm, "+<&=", $vm_fd) or exit 1;
      ioctl($vm, 0xae60, 0) if $has_irqchip;       # KVM_CREATE_IRQCHIP
      ioctl($vm, 0xae41, 0);                       # KVM_CREATE_VCPU
      push @kept, $vm;
    }
    open(my $sign, ">", "/run/lab-holds-vms");
    sleep;' </dev/null >/dev/null 2>&1 &
  while kill -0 $! 2>/dev/null && [ ! -e /run/lab-holds-vms ]; do usleep 10000; done
}

port() {
  for entry in /sys/class/virtio-ports/*; do
    [ "$(cat "$entry/name")" = "$1" ] && echo "/dev/${entry##*/}"
  done
}

# The driver makes the ports some time after it was loaded.
find_ports() {
  until [ -c "$(port stdout)" ] && [ -c "$(port stderr)" ] && [ -c "$(port life)" ]; do usleep 10000; done
  STDOUT_PORT=$(port stdout)
  STDERR_PORT=$(port stderr)
  LIFE_PORT=$(port life)
}

# Tells the runner that programs still get to run here.
show_life() {
  exec >"$LIFE_PORT"
  while echo alive; do sleep 5; done
}
