# Runs inside the guest: what a system does all day. Each line that ends in "ok" is checked by
# boot.py, which knows how many there are.
dmesg -n 1 # kernel messages would break these lines
check() {
    name=$1
    shift
    if "$@"; then echo "check $name ok"; else echo "check $name FAILED"; fi
}

processors=$(grep -c ^processor /proc/cpuinfo)
echo "kernel $(uname -r) $(uname -m) processors $processors"

check mounts grep -q ' /proc proc ' /proc/mounts
check memory awk '/MemTotal/ { exit !($2 > 50000) }' /proc/meminfo
check tmpfs sh -c 'mkdir -p /mnt && mount -t tmpfs none /mnt && echo data >/mnt/f &&
    grep -q data /mnt/f && umount /mnt && ! [ -e /mnt/f ]'
check fork sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do /bin/true || exit 1; done'
check pipe sh -c '[ "$(seq 1 2000 | sort -rn | head -n 1)" = 2000 ]'
check files sh -c 'dd if=/dev/zero bs=64k count=16 2>/dev/null | md5sum |
    grep -q b6d81b360a5672d80c27430f39153e2c'
check signal sh -c 'trap "exit 0" USR1; kill -USR1 $$; sleep 5; exit 1'
check child sh -c 'sleep 60 & kill $!; wait $!; [ $? -eq 143 ]'
check floating awk 'BEGIN {
    for (i = 1; i < 20; i++) sum += 1 / i / i
    exit sprintf("%.9f", sum) != "1.593663244"
}'
check sleep sh -c 'a=$(cut -d. -f1 /proc/uptime); sleep 2; b=$(cut -d. -f1 /proc/uptime);
    [ $((b - a)) -ge 1 ] && [ $((b - a)) -le 100 ]'
check date sh -c '[ "$(date +%Y)" -ge 2024 ]'
check random sh -c '[ "$(head -c 32 /dev/urandom | md5sum)" != "$(head -c 32 /dev/urandom | md5sum)" ]'
check quiet sh -c '! dmesg | grep -E "BUG:|Oops|WARNING: CPU|detected.*stall|soft lockup|Call Trace"'
echo "script done"
