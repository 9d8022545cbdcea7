#!/bin/busybox sh
# The first process of a Linux guest made by linux.mjs: runs /script on the console, says how it ended, and
# ends the machine. What the guest is to do besides is in /settings.

export PATH=/bin HOME=/ TERM=linux
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox --install -s /bin

mount -t proc proc /proc
mount -t sysfs sys /sys
# The kernel may have done this one itself (CONFIG_DEVTMPFS_MOUNT).
mount -t devtmpfs dev /dev 2>/dev/null

while read -r module; do
  insmod "/modules/$module.ko" || echo "init: cannot load the module $module"
done </modules/order

. /settings
if [ "$INTERACTIVE" = yes ]; then
  # A shell with job control needs a terminal of its own, which /dev/console is not.
  setsid cttyhack sh
else
  sh /script
fi
echo "init: ended with status $?"
sync

# ORDER: power-off first halts a machine without ACPI for good, so a reboot never asks for it.
[ "$END" = reboot ] && reboot -f
poweroff -f
