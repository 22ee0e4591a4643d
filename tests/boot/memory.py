#!/usr/bin/env python3
"""Measures the monitor's memory beyond the guest's own pages once a guest has booted.

usage: tests/boot/memory.py ENGINE GUEST [--limit MIB] [--cpus N] [--doppel PATH] [--guests DIR]

All that is resident, each page counted once (Pss), without the file that holds guest memory. Prints
what it consists of. Status 1: more than the limit. Skipped (77) when the guest is not there.
"""
import collections
import os
import re
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import guests  # noqa: E402

GUEST_MEMORY = "/memfd:doppel-ram"
SCRIPT = b"echo ready\nsleep 1000\n"
START_TIMEOUT = 300


def resident(pid):
    """KiB by mapping: {name: Pss}."""
    sizes = collections.Counter()
    name = ""
    with open("/proc/%d/smaps" % pid, encoding="utf-8") as file:
        for line in file:
            found = re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+\s*(.*)", line)
            if found:
                name = found.group(1).replace(" (deleted)", "") or "anonymous"
            elif line.startswith("Pss:"):
                sizes[name] += int(line.split()[1])
    return sizes


def main():
    parser = guests.parser(__doc__)
    parser.add_argument("guest")
    parser.add_argument("--limit", type=float, default=64)
    parser.add_argument("--cpus", type=int, default=1)
    args = parser.parse_args()
    kernel, base = guests.kernel_and_initrd(args, args.guest)
    with tempfile.TemporaryDirectory() as directory:
        initrd = guests.make_initrd(base, os.path.join(directory, "initrd"),
                                    {"script": (SCRIPT, True)})
        words = guests.command(args.engine, args.doppel, kernel, initrd, "console=ttyS0", "512M", args.cpus)
        with guests.started(words, b"ready", START_TIMEOUT) as process:
            sizes = resident(process.pid) if process else None
    if sizes is None:
        print("not ok - the script did not start")
        return 1
    guest = sum(size for name, size in sizes.items() if name.startswith(GUEST_MEMORY))
    own = sum(sizes.values()) - guest
    for name, size in sizes.most_common(8):
        print("# %8.1f MiB %s" % (size / 1024, name))
    good = guest and own <= args.limit * 1024
    print("%s %s, %s: %.1f MiB beyond the guest's %.1f MiB" % (
        "ok -" if good else "not ok -", args.engine, args.guest, own / 1024, guest / 1024))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
