#!/bin/sh
# Process 1 of the guest. Its root is the host's, read-only; OUT, from the kernel's command line, is a folder of the host's
# that it may write: `command` there is what it runs, and into `status` there goes how that ended.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t debugfs debugfs /sys/kernel/debug
mount -t configfs configfs /sys/kernel/config
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir /tmp/out
if [ "$ROOT" = 9p ]; then
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288 out /tmp/out
else
    mount -t hostfs -o "$OUT" none /tmp/out
fi
stty -onlcr
export HOME=/tmp TERM=dumb
sh /tmp/out/command </dev/null
echo $? >/tmp/out/status
# The power of this machine is switched off; qemu ends at a restart.
exec "$PYTHON" -S -c "import ctypes, sys; ctypes.CDLL(None).reboot(int(sys.argv[1], 16))" "$REBOOT"
