#!/usr/bin/env python3
"""Linux sleeps and goes on where it was: programs, memory, disk, processors.

usage: tests/boot/sleep.py ENGINE ram|idle|disk [--cpus N] [--guest G] [--firmware F]
       [--doppel PATH] [--guests DIR] [--timeout S]

`ram` is ACPI S3, `idle` suspend-to-idle, both ended by the RTC's alarm; `disk` is hibernation: the
second machine goes on where the first one powered off. With a firmware (a file for -bios) that is what
S3 returns through. ENGINE is one of Doppel's, or qemu. Skipped (77) when the guest is not there.
"""
import os
import re
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import guests  # noqa: E402

# What must survive: a program's memory, a running program, the disk's driver, all processors.
BEFORE = """
dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>/dev/null
md5sum /tmp/data > /tmp/sum
processors=$(nproc)
echo 0 > /tmp/count
(count=0; while :; do count=$((count + 1)); echo $count > /tmp/next; mv /tmp/next /tmp/count; usleep 50000; done) &
usleep 300000
alarm() { echo 0 > /sys/class/rtc/rtc0/wakealarm; echo +$1 > /sys/class/rtc/rtc0/wakealarm; }
# Nothing wakes who sleeps after the alarm. By the count of events the kernel stays awake when it comes
# before, as on a busy host: then once more, with a later one.
doze() {
    seconds=4
    until read events < /sys/power/wakeup_count && alarm $seconds &&
        echo $events > /sys/power/wakeup_count && echo $1 > /sys/power/state; do
        seconds=$((seconds * 2)); [ $seconds -lt 1000 ] || return
    done
}
awake() {
    before=$(cat /tmp/count); tries=0
    while usleep 500000; [ $(cat /tmp/count) -le $before ] && [ $((tries += 1)) -lt 100 ]; do :; done
    [ $(cat /tmp/count) -gt $before ] && md5sum -s -c /tmp/sum && [ $(nproc) = $processors ] &&
        dd if=/tmp/data of=/dev/vda bs=1M conv=fsync seek=1 2>/dev/null &&
        echo 3 > /proc/sys/vm/drop_caches &&
        dd if=/dev/vda bs=1M skip=1 count=8 2>/dev/null | cmp - /tmp/data && echo awake $1
}
"""
SCRIPTS = {
    "ram": BEFORE + """
echo deep > /sys/power/mem_sleep
for turn in 1 2; do doze mem && awake $turn; done
""",
    "idle": BEFORE + """
for turn in 1 2; do doze freeze && awake $turn; done
""",
    "disk": "cat /sys/block/vda/dev > /sys/power/resume\n" + BEFORE + """
mkswap /dev/vda >/dev/null; swapon /dev/vda
echo shutdown > /sys/power/disk
echo disk > /sys/power/state
swapoff /dev/vda; awake 1; awake 2
""",
}
COMPLAINTS = re.compile(r"WARNING:|BUG:|Call Trace|Oops|unchecked MSR|lockup|failed to (?:resume|bring)")


def main():
    parser = guests.parser(__doc__)
    parser.add_argument("kind", choices=SCRIPTS)
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--guest", default="cloud")
    parser.add_argument("--firmware")
    parser.add_argument("--timeout", type=float, default=1000)
    args = parser.parse_args()
    kernel, base = guests.kernel_and_initrd(args, args.guest)
    extra = []
    if args.firmware:
        guests.need(args.firmware)
        extra = ["-bios", args.firmware]
    with tempfile.TemporaryDirectory() as directory:
        initrd = guests.make_initrd(base, os.path.join(directory, "initrd"),
                                    {"script": (SCRIPTS[args.kind].encode(), True)})
        disk = os.path.join(directory, "disk")
        with open(disk, "wb") as file:
            file.truncate(256 << 20)
        words = guests.command(args.engine, args.doppel, kernel, initrd, "console=ttyS0", "256M",
                               args.cpus,
                               extra + ["-drive", "file=%s,format=raw,if=virtio" % disk])
        if args.kind == "disk":
            first = guests.boot(words, args.timeout)
            if first.status != 0 or "Image saving done" not in first.output:
                return guests.judge(first, "hibernation", ["image"], COMPLAINTS)
        result = guests.boot(words, args.timeout)
    missing = [turn for turn in "12" if not re.search("^awake " + turn, result.output, re.M)]
    return guests.judge(result, "sleep to %s, %d processor(s), engine %s" % (
        args.kind, args.cpus, args.engine), missing, COMPLAINTS)


if __name__ == "__main__":
    sys.exit(main())
