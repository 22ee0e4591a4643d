# Runs inside the guest: uses a shared directory, and says what it found. share.py judges.
dmesg -n 1
mkdir -p /mnt
mount -t 9p -o trans=virtio,version=9p2000.L host /mnt && echo "mounted yes"
cd /mnt || exit
echo "read $(cat greeting)"
cat escape 2>/dev/null && echo "escape yes"
cat ../etc/passwd 2>/dev/null
echo new >b && mkdir d && mv b d/c && ln -s c d/l && ln d/c d/h && chmod 640 d/c
echo "content $(cat d/c) $(cat d/l) $(cat d/h)"
echo "attributes $(stat -c '%a %s %h' d/c) $(stat -c '%F' d/l)"
dd if=/dev/urandom of=big bs=1M count=20 conv=fsync 2>/dev/null
echo "sum $(md5sum big)"
dd if=/dev/zero of=holes bs=1 seek=100000 count=1 2>/dev/null
truncate -s 5 holes
echo "truncated $(stat -c %s holes)"
touch -d '2001-01-01 00:00:00' greeting
echo "touched $(stat -c %Y greeting)"
mkdir many
i=0
while [ $i -lt 500 ]; do
    : >many/file-with-a-long-name-$i
    i=$((i + 1))
done
echo "listed $(ls many | wc -l)"
rm -r many
echo "gone $(ls many 2>/dev/null | wc -l)"
mkfifo pipe
mknod device c 1 3 2>/dev/null && echo "device $(stat -c '%F %t %T' device)"
chown 1234:5678 d/h 2>/dev/null
echo "owner $(stat -c '%u %g' d/h)"
echo "space $(df /mnt | wc -l)"
cd /
umount /mnt && echo "unmounted yes"
poweroff -f
