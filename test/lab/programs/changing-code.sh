# Has the kernel change its code while all processors run it: npm run lab -- [--cpus N] sh test/lab/programs/changing-code.sh
# With more than one processor QEMU 7.2 stops for good (docs/lab.md). With an argument: so often, instead of 300 times.
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
cd /sys/kernel/tracing/events || exit 1
for processor in $(seq "$(nproc)"); do (yes | cat >/dev/null) & done
round=0
while [ "$round" -lt "${1:-300}" ]; do
  for events in sched timer irq; do echo 1 >$events/enable; done
  for events in sched timer irq; do echo 0 >$events/enable; done
  round=$((round + 1))
  echo "changed $round times"
done
