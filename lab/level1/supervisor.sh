# Level 1's first process once it has its root file system: finishes the machine, runs the one command, and
# reports its end on the ports that carry its output. It uses only the static busybox and memory: nothing
# here depends on that root.

/lab/busybox --install -s /lab/bin
PATH=/lab/bin

mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
hostname lab
ip link set lo up
ulimit -n 65536
. /lab/machine.sh
mount_out
hold_vms

# ORDER: the ports stay open from here on: closing one may discard what the host has not read yet.
find_ports
exec 8>"$STDOUT_PORT" 9>"$STDERR_PORT"
show_life 8>&- 9>&- & life=$!

# The command gets pipes, not the ports: a port cannot be opened twice, as `echo >/dev/stderr` does.
mkfifo /lab/stdout /lab/stderr
cat </lab/stdout >&8 9>&- & stdout_relay=$!
cat </lab/stderr >&9 8>&- & stderr_relay=$!

# The host's own shell: busybox's would prefer its applets to the programs in PATH.
setsid /bin/sh /lab/command.sh \
  </dev/null >/lab/stdout 2>/lab/stderr 8>&- 9>&- &
wait $!
status=$?

# What the command left running would keep the pipes open.
for process in /proc/[0-9]*; do
  process=${process#/proc/}
  case $process in
    1 | "$life" | "$stdout_relay" | "$stderr_relay") ;;
    *) kill -9 "$process" 2>/dev/null ;;
  esac
done
wait "$stdout_relay" "$stderr_relay"

unmount_out
read -r mark </lab/end-mark
echo "$mark $status" >&8
echo "$mark $status" >&9

# The runner ends the machine when it has read both lines, however late that is.
while :; do sleep 1000; done
