#!/bin/sh
# Makes the root file system that all lab hosts share, unless the cache has it already, and prints its path.
#
#   packaging/lab/rootfs.sh [SUITE]
#
# The path carries a hash of this file: whoever changes the packages or the steps below gets a new one, and the hosts of
# another checkout keep theirs.
set -eu

suite=${1:-bookworm}
cache=${HAFAILOVER_LAB_CACHE:-/var/cache/hafailover-lab}
packages="systemd systemd-sysv dbus nginx-light iproute2 procps kmod util-linux less polkitd"

name=$suite-$(sha256sum "$0" | cut -c1-12)
root=$cache/$name
if [ -d "$root" ]; then
    echo "$root"
    exit 0
fi

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
# Another run may have made it while this one waited for the lock.
if [ ! -d "$root" ]; then
    new=$cache/new-$name
    rm -rf "$new"
    echo "lab: unpacking $suite into $root, once (about a minute)" >&2
    # shellcheck disable=SC2086 # a list of words
    mmdebstrap --quiet --variant=minbase --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --include="$(echo $packages | tr ' ' ,)" "$suite" "$new" >&2
    # The hosts are lab hosts: nothing runs at boot but what a test puts there, and each gets its own identity.
    systemctl --quiet --root="$new" disable nginx.service
    systemctl --quiet --root="$new" mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
        e2scrub_all.timer fstrim.timer systemd-networkd-wait-online.service console-getty.service \
        systemd-logind.service systemd-timesyncd.service getty.target
    passwd --quiet --root "$new" --delete root
    : >"$new/etc/machine-id"
    rm -f "$new/var/lib/dbus/machine-id"
    mv "$new" "$root"
fi
echo "$root"
