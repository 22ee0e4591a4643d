#!/usr/bin/env python3
"""Every engine gives user code the same answers: registers, flags and signals of sensitive instructions.

usage: tests/boot/sensitive.py [ENGINE...] [--bits 32] [--doppel PATH] [--guests DIR] [--cc CC]

Runs tests/boot/sensitive.c, or sensitive32.c, as a program of a Linux guest on each engine and
compares with the first. Skipped (77) when the guest is not there or an engine cannot run here.
"""
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import guests  # noqa: E402
from program32 import FLAGS as FLAGS_32  # noqa: E402

SOURCES = {64: ("sensitive.c", ["-O2", "-static"]), 32: ("sensitive32.c", FLAGS_32)}
ENGINES = ["sim", "bt", "direct,always=on", "direct,always=on,copies=on"]


def run(engine, doppel, kernel, initrd, timeout):
    """The program's lines on an engine."""
    # SYSENTER's answer from 64-bit code has addresses of the vdso in it: no random places.
    words = guests.command(engine, doppel, kernel, initrd, "console=ttyS0 quiet panic=-1 norandmaps")
    result = guests.boot(words, timeout)
    lines = result.output.split("\n")
    if "sensitive done" not in lines:
        sys.exit(f"{engine}: the program did not finish (status {result.status})\n"
                 f"{result.output[-2000:]}\n{result.errors[-500:]}")
    return [line for line in lines if ": signal " in line]


def main():
    parser = guests.parser(__doc__, engine=None)
    parser.add_argument("engines", nargs="*", default=ENGINES)
    parser.add_argument("--bits", type=int, choices=SOURCES, default=64)
    parser.add_argument("--cc", default="gcc")
    parser.add_argument("--timeout", type=int, default=450)
    args = parser.parse_args()
    kernel, base = guests.kernel_and_initrd(args, "cloud")
    listing = subprocess.run([args.doppel, "run", "-accel", "help"], capture_output=True, text=True,
                             check=True).stdout
    for engine in args.engines:
        if f"{engine.split(',')[0]:<14} works" not in listing:
            guests.skip(f"{engine} cannot run here")
    with tempfile.TemporaryDirectory(prefix="doppel-sensitive.") as directory:
        program = os.path.join(directory, "sensitive")
        source, flags = SOURCES[args.bits]
        subprocess.run([args.cc] + flags + ["-o", program, os.path.join(HERE, source)], check=True)
        with open(program, "rb") as file:
            files = {"sensitive": (file.read(), True), "script": (b"/sensitive\n", True)}
        initrd = guests.make_initrd(base, os.path.join(directory, "initrd"), files)
        answers = {engine: run(engine, args.doppel, kernel, initrd, args.timeout)
                   for engine in args.engines}
    first = args.engines[0]
    failed = 0
    for engine in args.engines[1:]:
        if len(answers[engine]) != len(answers[first]):
            print(f"{engine}: {len(answers[engine])} lines, {first}: {len(answers[first])}")
            failed += 1
        for ours, theirs in zip(answers[engine], answers[first]):
            if ours != theirs:
                print(f"{engine}: {ours}\n{first}: {theirs}")
                failed += 1
    print(f"{len(answers[first])} answers, {failed} differences")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
