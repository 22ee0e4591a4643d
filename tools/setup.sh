#!/bin/sh
# Installs the Debian packages that a target needs, and only those that are missing.
#
# usage: tools/setup.sh build|test|long|guest|disk|bench|fuzz|format ...
#
# Works as root (a container) or through sudo. When nothing is missing it takes no privileges, no
# network and a few milliseconds, so every make target may call it. It is also the list of what
# Doppel depends on.
set -eu

packages_build='libcmocka-dev gcc libc6-dev make meson ninja-build pkg-config libzydis-dev zlib1g-dev libzstd-dev libslirp-dev libncurses-dev libjansson-dev libnbd-dev'
packages_test='stress-ng libsqlite3-dev python3 clang clang-format qemu-system-x86 qemu-utils e2fsprogs cpio file seabios grub-pc-bin grub-common xorriso mtools memtest86+ ipxe ipxe-qemu isolinux syslinux syslinux-common iproute2'
packages_long='linux-source-6.1'
packages_guest='cpio apt dpkg seabios'
packages_disk='mmdebstrap uidmap fakeroot fdisk e2fsprogs qemu-utils openssh-client seabios'
packages_bench='iperf3'
packages_fuzz='clang libclang-rt-14-dev'
packages_format='clang-format'

wanted=
for group in "$@"; do
    case $group in
    build) wanted="$wanted $packages_build" ;;
    test) wanted="$wanted $packages_test" ;;
    long) wanted="$wanted $packages_long" ;;
    guest) wanted="$wanted $packages_guest" ;;
    disk) wanted="$wanted $packages_disk" ;;
    bench) wanted="$wanted $packages_bench" ;;
    fuzz) wanted="$wanted $packages_fuzz" ;;
    format) wanted="$wanted $packages_format" ;;
    *)
        echo "setup.sh: unknown group '$group' (build, test, long, guest, disk, bench, fuzz, format)" >&2
        exit 2
        ;;
    esac
done

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=
for package in $wanted; do
    installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "setup.sh: not a Debian system; please install:$missing" >&2
    exit 1
fi

as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "setup.sh: run this as root, or install sudo:  apt-get install$missing" >&2
        exit 1
    fi
    as_root=sudo
fi

install_packages() {
    # shellcheck disable=SC2086 # two lists of words
    $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends $missing >&2
}

echo "setup.sh: installing$missing" >&2
# Package lists may be absent (a fresh container) or stale (files gone from the mirror).
if ! install_packages; then
    $as_root apt-get update -q >&2
    install_packages
fi
