#!/bin/sh
# Makes guests from Debian's own packages: an unmodified kernel and a small initial RAM disk with
# a static busybox.
#
# usage: tools/guest.sh DIR GUEST...
#   cloud    Debian's cloud kernel, amd64: the default guest of `doppel run`
#   generic  Debian's generic kernel, amd64
#   i386     Debian's 686-pae kernel and an i386 busybox
#   xen mach uboot ovmf installer
#            other systems, as they are in their packages
#
# A Linux guest becomes DIR/GUEST/vmlinuz and DIR/GUEST/initrd. A guest that is there already is left
# alone. Nothing is installed: packages are fetched with apt-get download (from wherever this
# system gets its packages) and unpacked. For i386 apt works in a state directory of its own, so
# that the system's architectures and package lists stay as they are.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
[ $# -ge 2 ] || {
    echo "usage: tools/guest.sh DIR cloud|generic|i386|xen|mach|uboot|ovmf|installer..." >&2
    exit 2
}
dir=$1
shift

work=$(mktemp -d "${TMPDIR:-/tmp}/doppel-guest.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# apt_state ARCH: sets apt_options so that apt sees packages of ARCH.
apt_state() {
    apt_options="-q -o APT::Sandbox::User=root"
    state=$work/apt-$1
    # The system's own lists serve its own architecture when they are there.
    if [ "$1" = "$(dpkg --print-architecture)" ] && apt-cache show busybox-static >/dev/null 2>&1; then
        return
    fi
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/sources"
    : >"$state/status"
    # Only Debian's own sources: others need not know this architecture.
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
        /etc/apt/sources.list.d/*.sources; do
        if [ -f "$file" ] && grep -q debian "$file" && ! grep -q '^Architectures:' "$file"; then
            cp "$file" "$state/sources/"
        fi
    done
    apt_options="$apt_options -o APT::Architecture=$1 -o APT::Architectures::=$1"
    apt_options="$apt_options -o Dir::State=$state -o Dir::State::lists=$state/lists"
    apt_options="$apt_options -o Dir::State::status=$state/status -o Dir::Cache=$state/cache"
    apt_options="$apt_options -o Dir::Etc::sourcelist=/dev/null"
    apt_options="$apt_options -o Dir::Etc::sourceparts=$state/sources"
    # shellcheck disable=SC2086 # a list of options
    apt-get $apt_options update >&2 ||
        echo "guest.sh: not every package list could be read; going on with the rest" >&2
}

# unpack PACKAGE: downloads it and unpacks it into $work/root.
unpack() {
    mkdir -p "$work/debs"
    # shellcheck disable=SC2086
    (cd "$work/debs" && rm -f ./*.deb && apt-get $apt_options download "$1" >&2)
    dpkg -x "$work"/debs/*.deb "$work/root"
    rm -f "$work"/debs/*.deb
}

# The drivers that /init loads where the machine has virtio devices, in an order in which each finds
# what it needs. What a kernel has built in or not at all is passed over.
drivers='crc32c_generic crc16 mbcache jbd2 ext4 virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev
    virtio_pci virtio_blk failover net_failover virtio_net virtio-rng virtio_console virtio_balloon
    netfs fscache 9pnet 9pnet_virtio 9p'

# copy_drivers DIR: as DIR/NN-NAME.ko.
copy_drivers() {
    mkdir -p "$1"
    number=10
    for driver in $drivers; do
        file=$(find "$work/root/lib/modules" -name "$driver.ko" | head -n 1)
        [ -z "$file" ] || cp "$file" "$1/$number-$driver.ko"
        number=$((number + 1))
    done
}

# The versioned package that a kernel metapackage depends on.
kernel_package() {
    # shellcheck disable=SC2086
    apt-cache $apt_options depends "$1" | sed -n 's/^ *Depends: \(linux-image-[0-9][^ :]*\).*/\1/p' |
        head -n 1
}

# make_guest NAME ARCH METAPACKAGE
make_guest() {
    if [ -f "$dir/$1/vmlinuz" ] && [ "$dir/$1/initrd" -nt "$here/guest/init" ]; then
        return
    fi
    echo "guest.sh: making guest '$1' from Debian's $3 and busybox-static" >&2
    rm -rf "$work/root" "$work/ramdisk"
    apt_state "$2"
    package=$(kernel_package "$3")
    [ -n "$package" ] || {
        echo "guest.sh: no kernel package behind $3; is a Debian mirror in the apt sources?" >&2
        exit 1
    }
    unpack "$package"
    unpack busybox-static

    mkdir -p "$dir/$1" "$work/ramdisk/bin" "$work/ramdisk/sbin"
    cp "$work/root/bin/busybox" "$work/ramdisk/bin/"
    cp "$here/guest/init" "$work/ramdisk/init"
    chmod 755 "$work/ramdisk/init" "$work/ramdisk/bin/busybox"
    copy_drivers "$work/ramdisk/lib/modules"
    # /init runs before it could make links for itself.
    ln -s busybox "$work/ramdisk/bin/sh"
    # The kernel opens /dev/console for init; devtmpfs is mounted over it later. Uncompressed:
    # the guest would spend longer unpacking than the host saves in reading.
    (cd "$work/ramdisk" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) \
        >"$work/initrd"
    cp "$work"/root/boot/vmlinuz-* "$dir/$1/vmlinuz.new"
    mv "$dir/$1/vmlinuz.new" "$dir/$1/vmlinuz"
    mv "$work/initrd" "$dir/$1/initrd"
    cp "$work/root/usr/share/doc/$package/copyright" "$dir/$1/copyright" 2>/dev/null || true
}

# make_files NAME PACKAGE PATH...: a package's files into DIR/NAME, those named *.gz also unpacked.
make_files() {
    name=$1
    package=$2
    shift 2
    if [ -f "$dir/$name/copyright" ]; then
        return
    fi
    echo "guest.sh: getting guest '$name' from Debian's $package" >&2
    rm -rf "$work/root" "$dir/$name.new"
    apt_state amd64
    unpack "$package"
    mkdir -p "$dir/$name.new"
    for path in "$@"; do
        cp "$work/root/$path" "$dir/$name.new/${path##*/}"
        case $path in
        *initrd.gz) ;; # the kernel's work
        *.gz) gunzip "$dir/$name.new/${path##*/}" ;;
        esac
    done
    cp "$work/root/usr/share/doc/$package/copyright" "$dir/$name.new/"
    rm -rf "${dir:?}/$name"
    mv "$dir/$name.new" "$dir/$name"
}

netboot=usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64
for guest in "$@"; do
    case $guest in
    cloud) make_guest cloud amd64 linux-image-cloud-amd64 ;;
    generic) make_guest generic amd64 linux-image-amd64 ;;
    i386) make_guest i386 i386 linux-image-686-pae ;;
    xen) make_files xen xen-hypervisor-4.17-amd64 boot/xen-4.17-amd64.gz ;;
    mach) make_files mach gnumach-image-1.8-486 boot/gnumach-1.8-486.gz ;;
    ovmf) make_files ovmf ovmf usr/share/ovmf/OVMF.fd ;;
    uboot) make_files uboot u-boot-qemu usr/lib/u-boot/qemu-x86/u-boot.rom ;;
    installer)
        make_files installer debian-installer-12-netboot-amd64 "$netboot/linux" "$netboot/initrd.gz"
        ;;
    *)
        echo "guest.sh: unknown guest '$guest'" >&2
        exit 2
        ;;
    esac
done
