#!/bin/sh
# SPDX-License-Identifier: MIT
# Makes a Debian 13 system with QEMU 10 and guest images in a folder, for the tests beside this script.
#
#   tests/interop/chroot.sh DIRECTORY
#
# Needs root and debootstrap, and takes about half a minute and 1 GB. A folder that is there already
# is left alone. DEBIAN_MIRROR names another mirror.
set -eu

target=${1:?usage: chroot.sh DIRECTORY}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

if [ -x "$target/usr/bin/qemu-system-x86_64" ]; then
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "chroot.sh: needs root" >&2
    exit 1
fi
# Made aside and renamed, so that a build that was interrupted is not taken for a whole one.
work=$target.partial
rm -rf "$work"
debootstrap --variant=minbase --include=qemu-system-x86,memtest86+,seabios trixie "$work" "$mirror" >"$work.log" 2>&1 || {
    tail -n 20 "$work.log" >&2
    exit 1
}
rm -f "$work.log"
rm -rf "$work/var/cache/apt/archives" "$work/usr/share/doc"
mv "$work" "$target"
