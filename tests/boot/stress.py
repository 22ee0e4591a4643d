#!/usr/bin/env python3
"""Runs Debian's stress-ng with --verify in a guest: processor, memory, processes, signals, switches.

usage: tests/boot/stress.py ENGINE [--cpus N] [--seconds S] [--doppel PATH] [--guests DIR]

Each class runs for S seconds and checks its own results; the kernel's log must hold no complaint.
Skipped (77) when the guest or the host's stress-ng is not there.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import guests  # noqa: E402

CLASSES = ["cpu 2", "vm 2 --vm-bytes 32M", "matrix 1", "vecmath 1", "fork 2", "clone 2", "switch 2",
           "futex 2", "pipe 2", "mmap 2 --mmap-bytes 16M", "sigsuspend 2", "sigfd 2", "sigfpe 1",
           "sigsegv 1", "timer 1", "itimer 1", "longjmp 1", "fp-error 1", "brk 1", "stack 1",
           "str 1", "memcpy 1", "qsort 1", "crypt 1", "atomic 2", "lockbus 1", "cache 1", "ptrace 1",
           "vdso 1", "membarrier 1"]
COMPLAINT = re.compile(r"BUG|Oops|lockup|detected.*stall|WARNING: CPU|general protection")


def script(seconds):
    lines = ["export PATH=$PATH:/usr/bin", "cd /tmp"]
    for words in CLASSES:
        name = words.split()[0]
        lines.append("if timeout 120 stress-ng --%s --verify --timeout %ds >/tmp/log 2>&1" %
                     (words, seconds))
        lines.append("then echo stress %s ok; else echo stress %s failed; cat /tmp/log; fi" %
                     (name, name))
    return "\n".join(lines + ["dmesg", "echo script done", ""]).encode()


def files_of(program):
    """The program and the libraries that it names, where they are on the host."""
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    files = {}
    for path in [program] + re.findall(r"(/\S+) \(", listing):
        with open(path, "rb") as file:
            files[path.lstrip("/")] = (file.read(), True)
    return files


def main():
    parser = guests.parser(__doc__)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=3)
    args = parser.parse_args()
    kernel, base = guests.kernel_and_initrd(args, "cloud")
    guests.need("stress-ng")
    with tempfile.TemporaryDirectory() as directory:
        files = files_of(shutil.which("stress-ng"))
        files["script"] = (script(args.seconds), False)
        initrd = guests.make_initrd(base, os.path.join(directory, "initrd"), files)
        words = guests.command(args.engine, args.doppel, kernel, initrd, "console=ttyS0 quiet",
                               memory="1G", cpus=args.cpus)
        result = guests.boot(words, 120 + 20 * args.seconds * len(CLASSES))
    missing = [words.split()[0] for words in CLASSES
               if "stress %s ok\n" % words.split()[0] not in result.output]
    return guests.judge(result, "%d classes" % len(CLASSES), missing, COMPLAINT)


if __name__ == "__main__":
    sys.exit(main())
