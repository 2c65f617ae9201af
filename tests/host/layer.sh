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
mount -t proc proc "$folder/root/proc"
mount --rbind /dev "$folder/root/dev"
# No service starts while its package is installed.
printf '#!/bin/sh\nexit 101\n' >"$folder/root/usr/sbin/policy-rc.d"
chmod 755 "$folder/root/usr/sbin/policy-rc.d"
install() {
    # A container's own are mounts, which an overlay does not show; and systemd-resolved replaces the first.
    for name in resolv.conf hosts; do cp --remove-destination "/etc/$name" "$folder/root/etc/$name"; done
    chroot "$folder/root" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends -o Acquire::Retries=3 "$@"
}
install "$@" || { chroot "$folder/root" apt-get update -q && install "$@"; }
rm "$folder/root/usr/sbin/policy-rc.d"
umount "$folder/root/proc"
umount --lazy "$folder/root/dev"
umount "$folder/root"
cd "$folder/upper"
ln -sfn ../run/systemd/resolve/stub-resolv.conf etc/resolv.conf
rm -rf var/cache/apt usr/share/doc usr/share/man usr/share/locale
exec cp --archive . "$LAYER"
