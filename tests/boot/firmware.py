#!/usr/bin/env python3
"""Boots a disk of our own (disk.S) through SeaBIOS.

usage: tests/boot/firmware.py ENGINE [--cpus N] [--memory M] [--interface virtio|ide]
                              [--doppel PATH] [--timeout S]

ENGINE is one of Doppel's, or qemu (which shows that the disk is right). Skipped (77) without
SeaBIOS or an assembler.
"""
import os
import re
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import guests  # noqa: E402

BIOS = "/usr/share/seabios/bios-256k.bin"
DISK_BYTES = 1 << 20
LINES = ("boot sector", "second sector", "linear read", "written", "done")
END = 0x10 << 1 | 1
WORD = 0x44495343


def make_disk(directory):
    """Assembles disk.S to an image of 1 MiB."""
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "disk.S")
    objects, image = os.path.join(directory, "disk.o"), os.path.join(directory, "disk.img")
    subprocess.run(["as", "--32", "-I", os.path.dirname(source), "-o", objects, source], check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-o",
                    image, objects], check=True)
    os.truncate(image, DISK_BYTES)
    return image


def disks(args, image):
    """With IDE, an empty disk comes first, and the one to start says that it wants to be."""
    if args.interface == "virtio":
        return ["-drive", "file=%s,format=raw,if=virtio" % image]
    empty = image + ".empty"
    with open(empty, "wb") as file:
        file.truncate(DISK_BYTES)
    return ["-drive", "file=%s,format=raw,if=none,id=empty" % empty,
            "-drive", "file=%s,format=raw,if=none,id=disk" % image,
            "-device", "ide-hd,drive=empty,bus=ide.0,unit=0",
            "-device", "ide-hd,drive=disk,bus=ide.1,unit=0,bootindex=0"]


def command(args, image, debug):
    words = ["-m", "%dM" % args.memory, "-smp", str(args.cpus), "-nographic", "-no-reboot",
             *disks(args, image),
             "-chardev", "file,id=debug,path=" + debug,
             "-device", "isa-debugcon,iobase=0x402,chardev=debug",
             "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
    if args.engine == "qemu":
        return ["qemu-system-x86_64", "-accel", "tcg", "-nic", "none", "-vga", "none"] + words
    return [args.doppel, "run", "-accel", args.engine] + words


def problems(args, result, image, debug):
    """What is wrong, one line each."""
    if result.status != END:
        yield "exit status %s instead of %d" % (result.status, END)
    if "SeaBIOS (version" not in result.output:
        yield "no banner on the console"
    for line in LINES:
        if not re.search("^%s$" % line, result.output, re.MULTILINE):
            yield "no '%s'" % line
    found = re.search(r"^memory ([0-9A-F]{8})$", result.output, re.MULTILINE)
    kib = int(found.group(1), 16) >> 10 if found else 0
    # The BIOS keeps some for itself.
    if not args.memory * 1024 - 1024 < kib <= args.memory * 1024:
        yield "the memory map has %d KiB" % kib
    with open(image, "rb") as file:
        file.seek(3 * 512)
        if struct.unpack("<I", file.read(4))[0] != WORD ^ 0xffffffff:
            yield "what was written is not in the image"
    with open(debug, errors="replace") as file:
        log = file.read()
    if "Found %d cpu(s)" % args.cpus not in log:
        yield "SeaBIOS did not find %d processors" % args.cpus
    if "ACPI: parse DSDT" not in log:
        yield "SeaBIOS has no ACPI tables"


def main():
    parser = guests.parser(__doc__)
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--memory", type=int, default=64)
    parser.add_argument("--interface", choices=("virtio", "ide"), default="virtio")
    parser.add_argument("--timeout", type=float, default=450)
    args = parser.parse_args()
    guests.need(BIOS, "as", "ld")
    with tempfile.TemporaryDirectory() as directory:
        image, debug = make_disk(directory), os.path.join(directory, "debug")
        result = guests.boot(command(args, image, debug), args.timeout)
        wrong = list(problems(args, result, image, debug))
        if wrong:
            print(result.output)
            print(result.errors)
            with open(debug, errors="replace") as file:
                print(file.read())
    for line in wrong:
        print("not ok - " + line)
    print("%s SeaBIOS and a disk (%s), %d processor(s), engine %s: %.1f s" % (
        "not ok -" if wrong else "ok -", args.interface, args.cpus, args.engine, result.seconds))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
