#!/bin/sh
# Lays out in FOLDER what Debian's PACKAGEs add to this machine's own file system, of which nothing changes.
#   unshare --mount --pid --fork --kill-child layer.sh FOLDER PACKAGE...
# Every mount made here ends with the namespaces.
set -eu
folder=$1
shift
mount -t tmpfs tmpfs "$folder" # an upper layer may not lie below its lower one
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" overlay "$folder/root"
for name in resolv.conf hosts; do # a container's own are mounts, which an overlay does not show
    cp --remove-destination "/etc/$name" "$folder/root/etc/$name"
done
mount -t proc proc "$folder/root/proc"
mount --rbind /dev "$folder/root/dev"
# No service starts while its package is installed.
printf '#!/bin/sh\nexit 101\n' >"$folder/root/usr/sbin/policy-rc.d"
chmod 755 "$folder/root/usr/sbin/policy-rc.d"
install() { # all of it is fetched first: systemd-resolved takes the resolver of a root in which it does not run
    chroot "$folder/root" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends -o Acquire::Retries=3 "$@"
}
install "$@" || { chroot "$folder/root" apt-get update -q && install "$@"; }
rm "$folder/root/usr/sbin/policy-rc.d"
umount "$folder/root/proc"
umount --lazy "$folder/root/dev"
umount "$folder/root"
cd "$folder/upper"
rm -rf var/cache/apt usr/share/doc usr/share/man usr/share/locale
exec cp --archive . "$LAYER"
