#!/bin/busybox sh
# Level 1's first process while it runs from the initramfs: loads the modules, mounts the root file system,
# and hands over to supervisor.sh there. What differs by machine is in machine.sh (svm.sh or vmx.sh).

export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /root
/bin/busybox --install -s /bin

# The console is all there is to tell what went wrong; the runner shows its end.
die() {
  echo "lab: $*"
  poweroff -f
}

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

. /machine.sh

while read -r module; do
  [ "$module" = kvm ] && settle_clock
  insmod "/modules/$module.ko" || die "cannot load the module $module"
done </modules/order

mount_root

mkdir -p /root/lab
mount -t tmpfs tmpfs /root/lab
mkdir /root/lab/bin /root/lab/out
cp /bin/busybox /machine.sh /supervisor.sh /command.sh /end-mark /root/lab/

for point in proc sys dev; do mount --move "/$point" "/root/$point"; done
exec switch_root /root /lab/busybox sh /lab/supervisor.sh
