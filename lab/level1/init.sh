#!/bin/busybox sh
# Level 1's first process while it runs from the initramfs: loads the modules, makes a writable view of
# the host's root file system, and hands over to supervisor.sh there.

export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /host /rw /root
/bin/busybox --install -s /bin

# The console is all there is to tell what went wrong; the runner shows its end.
die() {
  echo "lab: $*"
  poweroff -f
}

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

while read -r module; do
  insmod "/modules/$module.ko" || die "cannot load the module $module"
done </modules/order

mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose hostroot /host ||
  die 'cannot mount the host root'
mount -t tmpfs tmpfs /rw
mkdir /rw/upper /rw/work
mount -t overlay -o lowerdir=/host,upperdir=/rw/upper,workdir=/rw/work overlay /root ||
  die 'cannot mount the overlay'

mkdir -p /root/lab
mount -t tmpfs tmpfs /root/lab
mkdir /root/lab/bin /root/lab/out
cp /bin/busybox /supervisor.sh /command.sh /end-mark /root/lab/

for point in proc sys dev; do mount --move "/$point" "/root/$point"; done
exec switch_root /root /lab/busybox sh /lab/supervisor.sh
