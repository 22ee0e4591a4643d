#!/usr/bin/env python3
"""sim and bt beside each other for long: a guest that never becomes idle.

usage: tests/bt/lockstep_long.py LOCKSTEP_BOOT GUEST TUS [--guests DIR] [--seconds N]

Gives the guest a script that forks, executes, computes and searches for ever, and the programs of the
bench, and runs LOCKSTEP_BOOT (lockstep_boot.c) until TUS translation units were compared, or that
many seconds are over: then those compared so far must agree.
"""
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/boot"))
import guests  # noqa: E402

SCRIPT = """
dmesg -n 1
cd /tmp
/workloads -t 2>/dev/null && programs=1
while true; do
    for name in $(find / -xdev -type f | head -n 200); do
        md5sum "$name"
        cksum <"$name"
    done >sums
    sort -r sums | awk '{ n += length($0); x = x * 0.99 + sqrt(n) } END { print n, x, sin(x) }'
    gzip -c /bin/busybox >packed && gunzip -c packed | sha256sum
    bzip2 -c sums >packed && bunzip2 -c packed | cmp - sums
    for i in 1 2 3 4 5 6 7 8 9 10; do
        sh -c 'exit 3' || true
        ls -l /bin /proc | sed 's/[0-9]/x/g' | tr a-z A-Z | wc
        (sleep 0.01; kill -USR1 $$) & trap 'caught=1' USR1
        wait
    done
    i=0
    while [ $i -lt 2000 ]; do i=$((i * 3 / 3 + 1)); done
    dd if=/dev/zero of=big bs=64k count=64 && tr '\\\\0' q <big | od -x | tail -n 2
    echo '2 500 ^ 97 / p' | dc
    vi -c ':q!' sums </dev/null
    ps; free; mount; df; uptime
    cat /proc/interrupts /proc/meminfo /proc/self/maps
    [ -z "$programs" ] ||
        for work in interpreter quicksort hash_chains lz matrix_vector matrix_scalar sqlite; do
            timeout 1 /workloads $work
        done
done >/dev/null 2>&1
"""


def main():
    parser = guests.parser(__doc__, "lockstep_boot")
    parser.add_argument("guest")
    parser.add_argument("tus")
    parser.add_argument("--seconds", default="0")
    parser.add_argument("--cc", default="gcc")
    args = parser.parse_args()
    kernel, base = guests.kernel_and_initrd(args, args.guest)
    with tempfile.TemporaryDirectory(prefix="doppel-lockstep.") as directory:
        workloads = guests.build_workloads(directory, args.cc)
        if not workloads:
            guests.skip("the compiler builds no static programs")
        with open(workloads, "rb") as file:
            files = {"script": (SCRIPT.encode(), True), "workloads": (file.read(), True)}
        initrd = guests.make_initrd(base, os.path.join(directory, "initrd"), files)
        return subprocess.run([args.lockstep_boot, kernel, initrd, args.tus, args.seconds],
                              check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
