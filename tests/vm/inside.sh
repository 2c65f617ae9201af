#!/bin/sh
# In the virtual machine, as its process 1: gives the program in JOB/argv a system to run in, its
# output on the second serial line, its exit code as the last line there, then the end of the machine.
job=$1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /dev/shm /lib/modules
mount -t tmpfs tmpfs /dev/shm
mount --bind "$job/modules" /lib/modules
ip link set lo up
exec </dev/null >/dev/ttyS1 2>&1
stty -F /dev/ttyS1 raw
echo "fleet-vm: up"
cd "$(cat "$job/folder")" && xargs -0 -a "$job/argv" env --
echo "fleet-vm: exit $?"
exec /bin/busybox poweroff -f
