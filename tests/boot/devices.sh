# Runs inside the guest, with a disk of each format, a network and the small virtio devices; see
# devices.py, which knows the names of the checks.
dmesg -n 1
check() {
    name=$1
    shift
    if "$@"; then echo "check $name ok"; else echo "check $name FAILED"; fi
}

# disk DEVICE SERIAL: what is on it, what is written to it, and that both are kept.
disk() {
    [ "$(cat /sys/block/$1/serial)" = "$2" ] || return 1
    mkdir -p /mnt/$1 && mount -t ext4 /dev/$1 /mnt/$1 || return 1
    grep -q "hello $2" /mnt/$1/hello || return 1
    dd if=/dev/urandom of=/mnt/$1/big bs=1M count=8 conv=fsync 2>/dev/null || return 1
    md5sum /mnt/$1/big >/mnt/$1/sum
    sync
    echo 3 >/proc/sys/vm/drop_caches
    md5sum -c -s /mnt/$1/sum || return 1
    dd if=/dev/zero of=/mnt/$1/gone bs=1M count=4 conv=fsync 2>/dev/null
    rm /mnt/$1/gone
    fstrim /mnt/$1 || return 1
    umount /mnt/$1
}
# named SERIAL: the disk of that name.
named() {
    grep -lx "$1" /sys/block/vd*/serial | cut -d / -f 4
}
snapshot=$(named snapshot)
readonly=$(named readonly)
check raw disk "$(named raw)" raw
check qcow2 disk "$(named qcow2)" qcow2
check snapshot dd if=/dev/zero of=/dev/$snapshot bs=64k count=16 conv=fsync
check readonly sh -c "! dd if=/dev/zero of=/dev/$readonly bs=512 count=1 conv=fsync 2>/dev/null &&
    [ \$(cat /sys/block/$readonly/ro) = 1 ] && dd if=/dev/$readonly of=/dev/null bs=64k count=8 2>/dev/null"

cat >/lease <<'END'
[ "$1" = bound ] || exit 0
ip addr add $ip/24 dev eth0
ip route add default via $router
END
chmod 755 /lease
sed -i '1i#!/bin/sh' /lease
ifconfig lo up
ip link set eth0 up
check dhcp udhcpc -i eth0 -s /lease -q -n -t 5
check address sh -c 'ip addr show eth0 | grep -q "inet 10.0.2.15/24"'
check ping ping -c 2 -W 60 10.0.2.2
url=$(sed -n 's/.*doppel.url=\([^ ]*\).*/\1/p' /proc/cmdline)
check download sh -c "wget -q -O /file $url/file && wget -q -O /sum $url/sum &&
    [ \"\$(md5sum </file)\" = \"\$(cat /sum)\" ]"
# The other way round, through the forwarded port: devices.py fetches /file.
mkdir /www
cp /file /www/file
httpd -p 80 -h /www
echo "server ready"
for i in $(seq 100); do
    wget -q -O /dev/null "$url/fetched" && break
    sleep 1
done
check upload wget -q -O /dev/null "$url/good"

check rng sh -c '[ "$(dd if=/dev/hwrng bs=16 count=4 2>/dev/null | wc -c)" = 64 ]'
check console sh -c 'echo "hello console" >/dev/hvc0'
check balloon sh -c 'dmesg | grep -q "Free page reporting enabled"'
check statistics wget -q -O /dev/null "$url/statistics"
packed=$(sed -n 's/.*doppel.packed=\([01]\).*/\1/p' /proc/cmdline)
check rings sh -c "[ \$(cut -c 35 /sys/class/net/eth0/device/features) = $packed ] &&
    [ \$(cut -c 35 /sys/block/$(named qcow2)/device/features) = $packed ]"
check quiet sh -c '! dmesg | grep -E "BUG:|Oops|WARNING: CPU|detected.*stall|soft lockup|Call Trace|I/O error"'
echo "script done"
