#!/bin/sh
# Runs COMMAND as on a machine of its own: mounts, processes, network, host name and IPC; its own /proc, /run,
# /dev/shm and lab folder. All of it ends with COMMAND, or with the process that started this.
#   alone.sh COMMAND [ARGUMENT...]
# /run/outside.netns is the network that COMMAND does not have; tests/fresh enters it for the package registries.
set -eu
if [ "$1" != --entered ]; then
    exec setpriv --pdeathsig KILL unshare --mount --pid --uts --ipc --fork --kill-child "$0" --entered "$@"
fi
shift
resolver=$(readlink -f /etc/resolv.conf)
servers=$(cat /etc/resolv.conf)
mount --make-rprivate /
mount -t proc -o nosuid,nodev,noexec proc /proc
# A control group too: workers of two such machines have the same names. Its name is its own among all that run; one
# that was killed has left its group, of which nothing is needed.
groups=$(findmnt -nrt cgroup2 -o TARGET | head -n 1)$(sed -n 's/^0:://p' /proc/self/cgroup)
group=$groups/alone-$(stat -Lc %i /proc/self/ns/pid)
if [ -d "$group" ]; then find "$group" -depth -type d -delete || :; fi
if [ -e "$groups/cgroup.procs" ] && mkdir "$group" && echo 0 >"$group/cgroup.procs"; then :; fi 2>/dev/null
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /dev/shm
mkdir -p /run/lock /var/lib/fleet-lab
: >/var/lib/fleet-lab/.tests # a lab outside that ends would remove the empty folder, and with it the next mount
mount -t tmpfs -o mode=755 tmpfs /var/lib/fleet-lab
case $resolver in /run/*) mkdir -p "${resolver%/*}" && printf '%s\n' "$servers" >"$resolver" ;; esac
: >/run/outside.netns
mount --bind /proc/self/ns/net /run/outside.netns
# A new /sys shows the new network; the control groups below it are the old ones.
mkdir /run/cgroup
mount --rbind /sys/fs/cgroup /run/cgroup
status=0
# shellcheck disable=SC2016  # expanded by the inner shell
unshare --net sh -euc '
    mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
    mount --move /run/cgroup /sys/fs/cgroup
    ip link set lo up
    exec "$@"' sh "$@" || status=$?
if [ -d "$group" ] && echo 0 >"$groups/cgroup.procs" && rmdir "$group"; then :; fi 2>/dev/null
exit "$status" # not `exec`: this shell is process 1, which has to wait for orphans
