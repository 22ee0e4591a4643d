#!/usr/bin/env python3
"""Kills the monitor (SIGKILL) at random moments while the guest writes to a qcow2 disk.

usage: tests/boot/killed.py ENGINE GUEST [--count N] [--seed S] [--doppel PATH] [--guests DIR]

Each time the image must pass qemu-img check, where clusters leaked are no harm, and hold what the
guest was told is durable. Skipped (77) when the guest or qemu-img is not there.
"""
import os
import random
import re
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import guests  # noqa: E402

BLOCK = 4096
BLOCKS = 16384
START_TIMEOUT = 300


def run_and_kill(words, seconds):
    """The last block that was told durable, or None when the guest never came so far."""
    durable = None
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as process:
        timer = threading.Timer(START_TIMEOUT, process.kill)
        timer.start()
        for line in process.stdout:
            found = re.match(rb"durable (\d+)\r?\n$", line)
            if not found:
                continue
            if durable is None:
                timer.cancel()
                timer = threading.Timer(seconds, process.kill)
                timer.start()
            durable = int(found.group(1))
        timer.cancel()
    return durable


def problems(directory, image, durable):
    check = subprocess.run(["qemu-img", "check", "-f", "qcow2", image], check=False, capture_output=True,
                           text=True)
    if check.returncode not in (0, 3):
        yield "qemu-img check: " + check.stdout + check.stderr
    raw = os.path.join(directory, "raw")
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, raw], check=True)
    with open(raw, "rb") as file:
        for n in range(durable + 1):
            file.seek(n * 7919 % BLOCKS * BLOCK)
            if file.read(BLOCK) != b"%04095d\n" % n:
                yield "block %d was durable and is gone" % n


def main():
    parser = guests.parser(__doc__)
    parser.add_argument("guest")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    kernel, base = guests.kernel_and_initrd(args, args.guest)
    guests.need("qemu-img")
    rng = random.Random(args.seed)
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "killed.sh"), "rb") as file:
        script = file.read()
    failed = blocks = 0
    with tempfile.TemporaryDirectory() as directory:
        initrd = guests.make_initrd(base, os.path.join(directory, "initrd"), {"script": (script, True)})
        image = os.path.join(directory, "image")
        for number in range(args.count):
            cluster = rng.choice((4096, 65536))
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=%d" % cluster, image,
                            str(BLOCKS * BLOCK)], check=True)
            words = guests.command(args.engine, args.doppel, kernel, initrd, "console=ttyS0", "256M", 1,
                                   ["-drive", "file=%s,format=qcow2" % image])
            durable = run_and_kill(words, rng.random() * 3)
            wrong = ["the guest wrote nothing"] if durable is None else list(problems(directory, image, durable))
            blocks += (durable or 0) + 1
            for line in wrong:
                print("not ok - kill %d: %s" % (number, line))
            failed += bool(wrong)
    print("%s killed %d times, %d blocks durable, %d failed" % (
        "not ok -" if failed else "ok -", args.count, blocks, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
