#!/usr/bin/env python3
"""Boots an unmodified Debian kernel to a shell that runs script.sh and powers off.

usage: tests/boot/boot.py ENGINE GUEST [--cpus N] [--doppel PATH] [--guests DIR] [--timeout S]
                          [--cpu MODEL]

ENGINE is one of Doppel's, or qemu (which shows that guest and script are right). GUEST is cloud,
generic or i386, as tools/guest.sh makes them. Skipped (77) when the guest is not there.
"""
import os
import re
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import guests  # noqa: E402

COMPLAINT = re.compile(r"^.*(WARNING: |BUG: |Call Trace:).*$", re.MULTILINE)
MACHINES = {"cloud": "x86_64", "generic": "x86_64", "i386": "i686"}


def problems(result, guest, cpus, checks):
    """What is wrong with the boot, one line each."""
    if result.status is None:
        yield "no end within %.0f s" % result.seconds
    elif result.status != 0:
        yield "exit status %d" % result.status
    found = re.search(r"^kernel (\S+) (\S+) processors (\d+)$", result.output, re.MULTILINE)
    if not found:
        yield "the script did not start"
    elif found.group(2) != MACHINES[guest] or int(found.group(3)) != cpus:
        yield "the guest is " + found.group(0)
    for name in checks:
        if "check %s ok\n" % name not in result.output:
            yield "check %s failed" % name
    if "script done\n" not in result.output:
        yield "the script did not end"
    complaint = COMPLAINT.search(result.output)
    if complaint:
        yield "the kernel complains: " + complaint.group(0)


def main():
    parser = guests.parser(__doc__)
    parser.add_argument("guest", choices=MACHINES)
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--memory", default="512M")
    parser.add_argument("--cpu", help="a processor model, for Doppel's engines")
    parser.add_argument("--exchange", help="tests/boot/exchange.c; ENGINE is its seed then")
    parser.add_argument("--append", default="")
    parser.add_argument("--timeout", type=float, default=300)
    args = parser.parse_args()

    kernel, base = guests.kernel_and_initrd(args, args.guest)
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "script.sh"), "rb") as file:
        script = file.read()
    checks = re.findall(r"^check (\w+) ", script.decode(), re.MULTILINE)
    with tempfile.TemporaryDirectory() as directory:
        initrd = guests.make_initrd(base, os.path.join(directory, "initrd"),
                                    {"script": (script, True)})
        append = "console=ttyS0 " + args.append
        if args.exchange:
            words = [args.exchange, kernel, initrd, append + " " + guests.PATIENCE, "512", str(args.cpus), args.engine]
        else:
            words = guests.command(args.engine, args.doppel, kernel, initrd, append, args.memory, args.cpus,
                                   ["-cpu", args.cpu] if args.cpu else [])
        result = guests.boot(words, args.timeout)
    if "no engine can run here" in result.errors or result.status == guests.SKIPPED:
        guests.skip(result.errors.strip())
    if args.exchange:
        print(result.errors.strip())
    wrong = list(problems(result, args.guest, args.cpus, checks))
    if wrong:
        print(result.output)
        print(result.errors)
    for line in wrong:
        print("not ok - " + line)
    print("%s %s, %d processor(s), engine %s: %.1f s" % (
        "not ok -" if wrong else "ok -", args.guest, args.cpus, args.engine, result.seconds))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
