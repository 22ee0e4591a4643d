#!/usr/bin/env python3
"""Code that a disk reads into a page which runs on the bare processor is scanned before it runs again.

usage: tests/boot/dma.py ENGINE [--doppel PATH] [--guests DIR] [--cc CC]

Runs tests/boot/dma.c in a Linux guest, with a disk of functions in turn without and with XGETBV, and
looks at the statistics: the former ran in a cell, the latter were refused.
"""
import os
import re
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import guests  # noqa: E402

BLOCKS = 40
SENSITIVE = bytes.fromhex("31c90f01d0c3")  # xor ecx, ecx; xgetbv; ret


def make_disk(path):
    with open(path, "wb") as file:
        for i in range(BLOCKS):
            plain = b"\xb8" + struct.pack("<I", i) + b"\xc3"  # mov eax, i; ret
            file.write((SENSITIVE if i % 2 else plain).ljust(4096, b"\x90"))


def main():
    parser = guests.parser(__doc__)
    parser.add_argument("--cc", default="gcc")
    parser.add_argument("--timeout", type=float, default=450)
    args = parser.parse_args()
    kernel, base = guests.kernel_and_initrd(args, "cloud")
    with tempfile.TemporaryDirectory(prefix="doppel-dma.") as directory:
        program, disk = os.path.join(directory, "dma"), os.path.join(directory, "disk")
        subprocess.run([args.cc, "-O2", "-static", "-o", program, os.path.join(HERE, "dma.c")], check=True)
        make_disk(disk)
        with open(program, "rb") as file:
            script = "dmesg -n 1\n/dma /dev/vda %d\n" % BLOCKS
            files = {"dma": (file.read(), True), "script": (script.encode(), True)}
        initrd = guests.make_initrd(base, os.path.join(directory, "initrd"), files)
        words = guests.command(args.engine, args.doppel, kernel, initrd, "console=ttyS0 quiet panic=-1", extra=[
            "-stats", "-drive", "file=%s,format=raw,if=virtio" % disk])
        result = guests.boot(words, args.timeout)
    if "no engine can run here" in result.errors:
        guests.skip(result.errors.strip())
    refused = re.search(r"code_refused_xgetbv (\d+)", result.errors)
    right = "dma done: 0 of %d wrong" % BLOCKS in result.output and \
        (not args.engine.startswith("direct") or int(refused.group(1)) >= BLOCKS // 2)
    if not right:
        print(result.output[-2000:], result.errors[-2000:])
    print("%s - code read by a disk, engine %s" % ("ok" if right else "not ok", args.engine))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
