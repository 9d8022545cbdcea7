# The Bochs machine's part of level 1: a disk image as root, a second one for /lab/out, and serial ports for
# output.

# The emulator's clock counts instructions: other work on the host changes nothing of what is measured. See svm.sh.
settle_clock() {
  :
}

mount_root() {
  until [ -b /dev/sda ]; do usleep 10000; done
  mount -t ext4 /dev/sda /root || die 'cannot mount the disk'
}

# The image holds what the project needs; busybox stands in for the other programs of a host.
mount_out() {
  /lab/busybox --install -s /usr/bin
  [ -b /dev/sdb ] && mount -t ext4 /dev/sdb /lab/out && rmdir /lab/out/lost+found
}

# A single processor: see svm.sh.
hold_vms() {
  :
}

unmount_out() {
  cd /
  grep -q ' /lab/out ' /proc/mounts && umount /lab/out
  sync
}

find_ports() {
  STDOUT_PORT=/dev/ttyS1
  STDERR_PORT=/dev/ttyS2
  for port in "$STDOUT_PORT" "$STDERR_PORT"; do stty -F "$port" raw -echo 115200; done
}

# One processor, and one thread that emulates it: it does not lock up as QEMU does.
show_life() {
  sleep 1000000
}
