#!/usr/bin/env python3
"""A 32-bit program under a 64-bit guest kernel: native, engines and TCG, part by part.

usage: bench/compat.py [--engines direct,bt,qemu] [--runs N] [--doppel PATH] [--guests DIR]

Each round runs tests/boot/program32.c here and on each engine, 100 times each part; times are the
quickest of all, which a loaded host changes least.
"""
import argparse
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BOOT = os.path.join(HERE, "..", "tests", "boot")
sys.path.insert(0, BOOT)
import guests  # noqa: E402
import program32  # noqa: E402

WORDS = ["x"]
NATIVE = "native"
TIMEOUT = 300
# Segments of the program's own stay with the translator; threads that take turns are system calls.
LEFT_OUT = ["segments", "small_code", "threads"]


def run_all(args, program, initrd):
    """Microseconds by contender and part."""
    texts = {NATIVE: subprocess.run([program] + WORDS, capture_output=True, text=True, check=True).stdout}
    kernel = os.path.join(args.guests, "cloud", "vmlinuz")
    for engine in args.engines.split(","):
        words = guests.command(engine, args.doppel, kernel, initrd, "console=ttyS0 quiet panic=-1")
        texts[engine] = guests.boot(words, TIMEOUT).output
    return {who: {name: int(us) for name, _, us in program32.parts(text)} for who, text in texts.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", default="direct,bt,qemu")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--doppel", default="build/doppel")
    parser.add_argument("--guests", default="build/guest")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="doppel-compat.") as directory:
        program = os.path.join(directory, "program32")
        subprocess.run(["gcc"] + program32.FLAGS + ["-o", program, os.path.join(BOOT, "program32.c")], check=True)
        with open(program, "rb") as file:
            script = "/program32 %s\n" % " ".join(WORDS)
            files = {"program32": (file.read(), True), "script": (script.encode(), True)}
        base = os.path.join(args.guests, "cloud", "initrd")
        initrd = guests.make_initrd(base, os.path.join(directory, "initrd"), files)
        rounds = [run_all(args, program, initrd) for _ in range(args.runs)]
    engines = args.engines.split(",")
    print("%-16s %9s" % ("part", "native us") + "".join("%16s" % (e + "/native") for e in engines))
    for part in rounds[0][NATIVE]:
        if part in LEFT_OUT:
            continue
        least = {who: min(r[who][part] for r in rounds) for who in [NATIVE] + engines}
        print("%-16s %9d" % (part, least[NATIVE]) +
              "".join("%16.2f" % (least[e] / max(least[NATIVE], 1)) for e in engines))


if __name__ == "__main__":
    main()
