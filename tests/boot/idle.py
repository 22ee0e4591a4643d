#!/usr/bin/env python3
"""A guest at its prompt, with nothing to do, takes less than 2% of one host core.

usage: tests/boot/idle.py ENGINE GUEST [--cpus N] [--seconds S] [--doppel PATH] [--guests DIR]

Processor time is counted, so a busy host does not matter. Skipped (77) when the guest is not there.
"""
import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import guests  # noqa: E402

LIMIT, TIMEOUT = 2.0, 280
WINDOWS = 12  # on a busy host the boot goes on for a while
SCRIPT = b"echo ready\nsleep 100000\n"


def processor_seconds(pid):
    with open("/proc/%d/stat" % pid, encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    parser = guests.parser(__doc__)
    parser.add_argument("guest")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10)
    args = parser.parse_args()
    kernel, base = guests.kernel_and_initrd(args, args.guest)
    with tempfile.TemporaryDirectory() as directory:
        initrd = guests.make_initrd(base, os.path.join(directory, "initrd"),
                                    {"script": (SCRIPT, True)})
        words = guests.command(args.engine, args.doppel, kernel, initrd,
                               "console=ttyS0 quiet", "256M", args.cpus, ["-nic", "user"])
        with guests.started(words, b"ready", TIMEOUT) as process:
            if not process:
                print("not ok - the script did not start")
                return 1
            time.sleep(3)  # what is left of the boot
            for _ in range(WINDOWS):
                before = processor_seconds(process.pid)
                time.sleep(args.seconds)
                used = 100 * (processor_seconds(process.pid) - before) / args.seconds
                if used < LIMIT:
                    break
    print("%s - idle, %d processors, engine %s: %.2f%% of a core, %.0f%% allowed" % (
        "ok" if used < LIMIT else "not ok", args.cpus, args.engine, used, LIMIT))
    return 0 if used < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
