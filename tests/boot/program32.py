#!/usr/bin/env python3
"""A 32-bit program on guest kernels of 32 and 64 bits gives the results that it gives here.

usage: tests/boot/program32.py ENGINE GUEST [--doppel PATH] [--guests DIR] [--cc CC] [--times]

ENGINE is one of Doppel's, or qemu. With --times the program repeats its parts and says what each
took, here and in the guest. Skipped (77) when the guest is not there or this kernel runs no 32-bit
programs.
"""
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import guests  # noqa: E402

NOTHING = "0" * 8
FLAGS = ["-m32", "-O2", "-std=gnu17", "-static", "-nostdlib", "-ffreestanding", "-fno-pic", "-no-pie",
         "-fno-stack-protector", "-mno-sse", "-fno-tree-loop-distribute-patterns"]


def parts(text):
    """The program's answers: (name, sum, microseconds or nothing)."""
    return re.findall(r"\bpart (\w+) ([0-9a-f]+)(?: (\d+) us)?$", text, re.MULTILINE)


def main():
    parser = guests.parser(__doc__)
    parser.add_argument("guest", choices=["cloud", "generic", "i386"])
    parser.add_argument("--cc", default="gcc")
    parser.add_argument("--times", action="store_true")
    parser.add_argument("--timeout", type=float, default=450)
    args = parser.parse_args()
    kernel, base = guests.kernel_and_initrd(args, args.guest)
    words = ["x"] if args.times else []
    with tempfile.TemporaryDirectory(prefix="doppel-program32.") as temporary:
        program = os.path.join(temporary, "program32")
        subprocess.run([args.cc] + FLAGS + ["-o", program, os.path.join(HERE, "program32.c")],
                       check=True)
        try:
            here = subprocess.run([program] + words, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            guests.skip("no 32-bit programs here: %s" % error)
        with open(program, "rb") as file:
            script = "/program32 %s\n" % " ".join(words)
            files = {"program32": (file.read(), True), "script": (script.encode(), True)}
        initrd = guests.make_initrd(base, os.path.join(temporary, "initrd"), files)
        result = guests.boot(
            guests.command(args.engine, args.doppel, kernel, initrd,
                           "console=ttyS0 quiet panic=-1"), args.timeout)
    if "no engine can run here" in result.errors:
        guests.skip(result.errors.strip())
    expected, found = parts(here.stdout), parts(result.output)
    right = len(found) == len(expected)
    for (name, answer, native), there in zip(expected, found):
        if args.times:
            print("%-16s native %6s us  %s %6s us" % (name, native, args.engine, there[2]))
        # The kernel may be built without 16-bit segments.
        if there[0] != name or there[1] not in (answer, NOTHING):
            print("not ok - %s is %s here, %s %s in the guest" % (name, answer, *there[:2]))
            right = False
    if not right:
        print(result.output[-2000:], result.errors[-500:])
    print("%s - a 32-bit program under the %s kernel, engine %s: %d of %d parts" % (
        "ok" if right else "not ok", args.guest, args.engine, len(found), len(expected)))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
