#!/bin/sh
# Makes a Debian system disk from packages: ext4, GRUB in the master boot record, systemd, sshd, gcc,
# python3, fio and iperf3. Nothing needs privileges; packages come from wherever this system gets
# its own.
#
# usage: tools/disk.sh DIR
#
# Gives DIR/disk.raw, DIR/disk.qcow2 (the same), DIR/key (an ssh key that root's account accepts)
# and DIR/copyright. Root may also log in on the serial line, with the password `doppel`. A disk that
# is there already, and not older than this script, is left alone.
set -eu

[ $# -eq 1 ] || {
    echo "usage: tools/disk.sh DIR" >&2
    exit 2
}
dir=$1
if [ "$dir/disk.qcow2" -nt "$0" ] && [ "$dir/disk.raw" -nt "$0" ] && [ -f "$dir/key" ]; then
    exit 0
fi

packages='linux-image-cloud-amd64 initramfs-tools zstd systemd-sysv udev dbus kmod procps iproute2
    e2fsprogs login passwd openssh-server gcc libc6-dev python3-minimal fio iperf3 grub-pc-bin
    grub-common ca-certificates'
size=3G
first=2048 # the partition's first sector; the boot loader lies between it and the MBR

work=$(mktemp -d "${TMPDIR:-/tmp}/doppel-disk.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
mkdir -p "$dir"
echo "disk.sh: making a Debian 12 system disk in $dir (some minutes)" >&2

# Only Debian's own sources: others are no part of the disk.
sources=
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    if [ -f "$file" ] && grep -q debian "$file" && grep -q '^[^#]*bookworm' "$file"; then
        sources="$sources $file"
    fi
done
[ -n "$sources" ] || {
    echo "disk.sh: no Debian 12 (bookworm) in this system's apt sources" >&2
    exit 1
}

ssh-keygen -q -t ed25519 -N '' -C doppel -f "$work/key"

# What the guest is told of itself. It starts at once (no menu), speaks on the serial line, asks DHCP
# on every network card, and knows the key.
overlay=$work/overlay
mkdir -p "$overlay/etc/systemd/network" "$overlay/boot/grub" "$overlay/root/.ssh"
chmod 700 "$overlay/root" "$overlay/root/.ssh"
echo doppel >"$overlay/etc/hostname"
echo '127.0.0.1 localhost doppel' >"$overlay/etc/hosts"
echo 'LABEL=doppel / ext4 errors=remount-ro 0 1' >"$overlay/etc/fstab"
printf '[Match]\nType=ether\n\n[Network]\nDHCP=yes\n' >"$overlay/etc/systemd/network/ether.network"
cp "$work/key.pub" "$overlay/root/.ssh/authorized_keys"
cat >"$overlay/boot/grub/grub.cfg" <<'END'
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
set timeout=0
menuentry 'Debian' {
    search --no-floppy --label doppel --set=root
    linux /vmlinuz root=LABEL=doppel console=ttyS0
    initrd /initrd.img
}
END
tar -C "$overlay" -cf "$work/overlay.tar" --owner=0 --group=0 .
chmod 644 "$work/overlay.tar"
chmod 711 "$work"

# The name space of an unprivileged user where there are such, also for root: a container may not
# mount. `auto` otherwise, and for an ordinary user a pretended root.
mode=auto
if [ -s /etc/subuid ] && unshare -U -m true 2>/dev/null &&
    { [ "$(id -u)" -eq 0 ] || grep -q "^$(id -un):" /etc/subuid; }; then
    mode=unshare
elif [ "$(id -u)" -ne 0 ]; then
    mode=fakechroot
    command -v fakechroot >/dev/null || {
        echo "disk.sh: an ordinary user needs user name spaces and subordinate ids for this (as root:" \
            "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)), or the package" \
            "fakechroot" >&2
        exit 1
    }
fi
# shellcheck disable=SC2086 # a list of files
mmdebstrap --quiet --mode=$mode --variant=minbase \
    --include="$(echo $packages | tr ' ' ,)" --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook="tar-in $work/overlay.tar /" \
    --customize-hook='echo root:doppel | chroot "$1" chpasswd' \
    --customize-hook='chroot "$1" systemctl -q enable systemd-networkd' \
    --customize-hook='cp -r "$1/usr/lib/grub/i386-pc" "$1/boot/grub/"' \
    --customize-hook='chroot "$1" grub-mkimage -O i386-pc -o /boot/grub/core.img \
        -p "(hd0,msdos1)/boot/grub" biosdisk part_msdos ext2' \
    bookworm "$work/root.tar" $sources >&2

# A partition from sector 2048 to the end, and before it what grub-install would write: boot.img in
# the first sector, which loads core.img from the second on.
truncate -s $size "$work/disk.raw"
echo "$first,,L,*" | sfdisk -q "$work/disk.raw"
mkdir "$work/root"
fakeroot sh -eu -c 'tar -C "$1/root" -xf "$1/root.tar"
    mke2fs -q -t ext4 -L doppel -E "offset=$(($2 * 512))" -d "$1/root" "$1/disk.raw" "$3"' \
    sh "$work" $first $((3 * 1024 * 1024 - first / 2))k
grub=$work/root/boot/grub
[ "$(stat -c %s "$grub/core.img")" -le $(((first - 1) * 512)) ]
dd status=none conv=notrunc bs=1 count=440 if="$grub/i386-pc/boot.img" of="$work/disk.raw"
dd status=none conv=notrunc bs=512 seek=1 if="$grub/core.img" of="$work/disk.raw"

qemu-img convert -f raw -O qcow2 "$work/disk.raw" "$dir/disk.qcow2.new"
cp --sparse=always "$work/disk.raw" "$dir/disk.raw.new"
cat "$work"/root/usr/share/doc/*/copyright >"$dir/copyright"
# All at once in the end: a disk whose making failed leaves the old one, with its key.
mv -f "$work/key" "$work/key.pub" "$dir/"
mv "$dir/disk.raw.new" "$dir/disk.raw"
mv "$dir/disk.qcow2.new" "$dir/disk.qcow2"
