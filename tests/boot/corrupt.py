#!/usr/bin/env python3
"""Boots with random corruptions of the kernel image, the RAM disk and the command line.

usage: tests/boot/corrupt.py [--count N] [--seed S] [--seconds S] [--doppel PATH] [--guests DIR]

Whatever the bytes, the monitor may refuse them (one line, status 2 or 3), run a guest that ends or
hangs, or see it crash (triple fault): it must not crash itself, say "internal error" or a
sanitizer's report, and must end soon when it is told to.
"""
import os
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import guests  # noqa: E402

# What an end may look like: power-off, refusal, triple fault, our SIGTERM, on a busy host even
# before the monitor minds it.
GOOD_STATUSES = {0, 2, 3, 4, 128 + 15, -15}
BAD_WORDS = ("doppel: internal error", "Sanitizer: ", ": runtime error: ")
GRACE = 100


def corrupt_bytes(rng, data, header):
    """Changes a few bytes, mostly in the first `header` ones, or cuts or doubles the end."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64))):
        limit = header if rng.random() < 0.7 else len(data)
        data[rng.randrange(min(limit, len(data)))] = rng.randrange(256)
    if rng.random() < 0.2:
        del data[rng.randrange(len(data)):]
    return bytes(data)


def corrupt_words(rng):
    """A command line that no one would write."""
    pieces = ["console=ttyS0", "mem=1K", "mem=4096G", "memmap=exactmap", "acpi=off", "noapic", "nolapic",
              "nosmp", "maxcpus=0", "pci=off", "init=/nowhere", "root=/dev/x", "panic=-1",
              "nopti", "tsc=unstable", "clocksource=acpi_pm", "idle=poll", "earlyprintk=serial",
              "a" * 3000, "%s%n", "\"", "=", "x=" + "y" * 500, "crashkernel=1G", "vsyscall=emulate"]
    words = [rng.choice(pieces) for _ in range(rng.randrange(12))]
    words += ["".join(chr(rng.randrange(1, 256)) for _ in range(rng.randrange(40)))]
    return " ".join(words).replace("\0", "")


def run(words, seconds):
    """(status, everything printed); SIGTERM after `seconds`, None if that did not help."""
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                output, _ = process.communicate(timeout=GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                return None, ""
        return process.returncode, output.decode(errors="replace")


def problem(status, output):
    if status is None:
        return "hangs: does not end on SIGTERM"
    if status not in GOOD_STATUSES:
        return "ends with status %d" % status
    for word in BAD_WORDS:
        if word in output:
            return "says '%s'" % word
    return None


def main():
    parser = guests.parser(__doc__, engine=None)
    parser.add_argument("--count", type=int, default=100, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3, help="a guest may run so long")
    parser.add_argument("--engine", default="sim")
    args = parser.parse_args()

    kernel, initrd = guests.kernel_and_initrd(args, "cloud")
    with open(kernel, "rb") as file:
        kernel_bytes = file.read()
    with open(initrd, "rb") as file:
        initrd_bytes = file.read()
    rng = random.Random(args.seed)
    failures = 0
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "corrupt")
        for kind in ("kernel", "initrd", "words"):
            for number in range(args.count):
                choice = [kernel, initrd, "console=ttyS0 panic=-1"]
                if kind == "kernel":
                    data, choice[0] = corrupt_bytes(rng, kernel_bytes, 0x280), path
                elif kind == "initrd":
                    data, choice[1] = corrupt_bytes(rng, initrd_bytes, 4096), path
                else:
                    data, choice[2] = b"", corrupt_words(rng)
                with open(path, "wb") as file:
                    file.write(data)
                words = guests.command(args.engine, args.doppel, choice[0], choice[1], choice[2],
                                       "256M")
                status, output = run(words, args.seconds)
                wrong = problem(status, output)
                if wrong:
                    failures += 1
                    print("not ok - %s %d of seed %d %s" % (kind, number, args.seed, wrong))
                    print(output[-2000:])
    print("%s - %d corruptions of each kind, seed %d" % (
        "not ok" if failures else "ok", args.count, args.seed))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
