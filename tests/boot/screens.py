#!/usr/bin/env python3
"""Starts what has only a screen and a keyboard, by -display curses in a terminal of our own.

usage: tests/boot/screens.py CASE ENGINE [--guests DIR] [--doppel PATH] [--timeout S]

CASE: floppy (our own, floppy.S), modes (all of the video BIOS's, modes.S), grub (a rescue CD),
graphics (GRUB in a VBE mode), memtest (a pass of Memtest86+), kernel
(Debian's, without firmware), ipxe (the network card's ROM). Skipped (77) without the packages.
"""
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import guests  # noqa: E402
import machine  # noqa: E402
import terminal  # noqa: E402

BIOS = "/usr/share/seabios/bios-256k.bin"
VGA_BIOS = "/usr/share/seabios/vgabios-stdvga.bin"
GRUB = "/usr/lib/grub/i386-pc"
FONT = "/usr/share/grub/ascii.pf2"
MEMTEST = "/boot/memtest86+x64.bin"
ROM = "/usr/lib/ipxe/qemu/efi-virtio.rom"
SECTOR, TRACK = 512, 18 * 512
WORD = 0x44495343


class Wrong(Exception):
    """What is not on the screen."""


def expect(term, pattern, seconds):
    if not term.wait(pattern, seconds):
        raise Wrong("no line matches '%s'" % pattern)


def make_floppy(directory, name):
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".S")
    objects, image = os.path.join(directory, name + ".o"), os.path.join(directory, name + ".img")
    subprocess.run(["as", "--32", "-I", os.path.dirname(source), "-o", objects, source], check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-o",
                    image, objects], check=True)
    os.truncate(image, 1440 * 1024)
    with open(image, "r+b") as file:
        file.seek((79 * 2 + 1) * TRACK)
        file.write(struct.pack("<I", WORD))
    return image


def make_cd(directory, config, *files):
    root = os.path.join(directory, "root")
    os.makedirs(os.path.join(root, "boot/grub"))
    for file in files:
        shutil.copy(file, os.path.join(root, "boot"))
    if config:
        with open(os.path.join(root, "boot/grub/grub.cfg"), "w") as file:
            file.write(config)
    image = os.path.join(directory, "cd.iso")
    subprocess.run(["grub-mkrescue", "-d", GRUB, "-o", image, root], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return image


def floppy(run, directory, timeout):
    image = make_floppy(directory, "floppy")
    term = run("-m", "16M", "-fda", image, "-boot", "a")
    for line in ("^boot sector$", "^far track$", "^written$", "^type:", "^straight into the memory$"):
        expect(term, line, timeout)
    term.type("Dir A:\\*.* /w\r")
    expect(term, r"^type: Dir A:\\\*\.\* /w$", timeout)
    expect(term, "^thank you$", timeout)
    expect(term, "^V86$", timeout)
    expect(term, "^DONE$", timeout)
    with open(image, "rb") as file:
        file.seek(40 * 2 * TRACK)
        if struct.unpack("<I", file.read(4))[0] != WORD ^ 0xffffffff:
            raise Wrong("what was written is not in the image")
    return term


def grub(run, directory, timeout):
    term = run("-m", "128M", "-cdrom", make_cd(directory, None))
    expect(term, "^grub>", timeout)
    term.type("ls\r")
    expect(term, r"^\(cd\)", timeout)
    term.type("echo \"It_{is} [ME]+\"; halt\b\b\b\b\b\b\r")
    expect(term, r"^It_{is} \[ME\]\+$", timeout)
    return term


def dots(control, directory):
    """The screen: (width, height, RGB bytes)."""
    picture = os.path.join(directory, "screen.ppm")
    control.call("screendump", filename=picture)
    with open(picture, "rb") as file:
        magic, size, depth = file.readline(), file.readline(), file.readline()
        if (magic, depth) != (b"P6\n", b"255\n"):
            raise Wrong("no PPM picture: %r" % magic)
        width, height = map(int, size.split())
        return width, height, file.read()


def modes(run, directory, timeout):
    """The video BIOS's modes: 4 and 6 (CGA), Dh to 12h (planes), 13h, VBE 102h (planes), 103h."""
    path = os.path.join(directory, "qmp")
    term = run("-m", "16M", "-fda", make_floppy(directory, "modes"), "-boot", "a", "-qmp",
               "unix:%s,server=on,wait=off" % path)
    control = None
    for size in ((320, 200), (640, 200), (320, 200), (640, 200), (640, 350), (640, 480),
                 (640, 480), (320, 200), (800, 600), (800, 600)):
        expect(term, "%d x %d dots of graphics" % size, timeout)
        control = control or machine.Control(path)
        end, lit = time.monotonic() + timeout, []
        while lit != [(10, 5)] and time.monotonic() < end:
            width, height, rgb = dots(control, directory)
            lit = [(at // 3 % width, at // 3 // width) for at in range(0, len(rgb), 3)
                   if any(rgb[at:at + 3])]
            term.pump(0.1)
        if (width, height) != size or lit != [(10, 5)]:
            raise Wrong("%d x %d with dots at %r" % (width, height, lit[:5]))
        term.send(" ")
    expect(term, "^all modes$", timeout)
    return term


def graphics(run, directory, timeout):
    config = ("insmod all_video\ninsmod gfxterm\nloadfont /boot/%s\nset gfxmode=800x600x32\n"
              "terminal_output gfxterm\n" % os.path.basename(FONT))
    path = os.path.join(directory, "qmp")
    term = run("-m", "64M", "-cdrom", make_cd(directory, config, FONT), "-qmp",
               "unix:%s,server=on,wait=off" % path)
    expect(term, "800 x 600 dots of graphics", timeout)
    control = machine.Control(path)
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        _, _, rgb = dots(control, directory)
        # GRUB's greeting, in grey on black.
        if sum(1 for at in range(0, len(rgb), 3) if rgb[at] > 0x80) > 1000:
            return term
        term.pump(0.5)
    raise Wrong("the picture is black")


def memtest(run, directory, timeout):
    config = "set timeout=0\nmenuentry memtest {\n linux /boot/%s\n}\n" % os.path.basename(MEMTEST)
    term = run("-m", "16M", "-cdrom", make_cd(directory, config, MEMTEST))
    expect(term, "Memtest86", timeout)
    expect(term, r"Testing: .*MB", timeout)
    expect(term, r"Pass:\s+[1-9].*Errors: 0", timeout)
    return term


def kernel(run, directory, timeout, guest):
    """A kernel without firmware finds its console on the screen, in colours and with a font."""
    path = os.path.join(directory, "qmp")
    term = run("-m", "256M", "-kernel", os.path.join(guest, "vmlinuz"), "-initrd",
               os.path.join(guest, "initrd"), "-append", "console=tty0 quiet", "-qmp",
               "unix:%s,server=on,wait=off" % path)
    expect(term, "^/ #$", timeout)
    term.type("echo $((6 * 7)) > /x; cat /x\r")
    expect(term, "^42$", timeout)
    width, height, rgb = dots(machine.Control(path), directory)
    if (width, height) != (720, 400) or not 1000 < rgb.count(b"\xaa\xaa\xaa") < 30000:
        raise Wrong("%d x %d, %d grey" % (width, height, rgb.count(b"\xaa\xaa\xaa")))
    return term


def ipxe(run, directory, timeout):
    term = run("-m", "64M", "-nic", "user,restrict=on", "-boot", "n")
    expect(term, "^iPXE [0-9].*Open Source Network Boot Firmware", timeout)
    expect(term, "^net0: 52:54:00:12:34:56 using virtio-net", timeout)
    return term


CASES = {"modes": (modes, ("as", "ld"), ()),
         "floppy": (floppy, ("as", "ld"), ()),
         "grub": (grub, ("grub-mkrescue", "xorriso", "mformat"), (GRUB,)),
         "graphics": (graphics, ("grub-mkrescue", "xorriso", "mformat"), (GRUB, FONT)),
         "memtest": (memtest, ("grub-mkrescue", "xorriso", "mformat"), (GRUB, MEMTEST)),
         "kernel": (kernel, (), ()),
         "ipxe": (ipxe, (), (ROM,))}


def main():
    parser = guests.parser(__doc__, engine=None)
    parser.add_argument("case", choices=sorted(CASES))
    parser.add_argument("engine")
    parser.add_argument("--timeout", type=float, default=450)
    args = parser.parse_args()
    test, programs, files = CASES[args.case]
    guest = os.path.join(args.guests, "cloud") if args.case == "kernel" else None
    files += (os.path.join(guest, "vmlinuz"),) if guest else ()
    guests.need(*programs, BIOS, VGA_BIOS, *files)
    terms = []

    def run(*words):
        terms.append(terminal.Terminal([args.doppel, "run", "-accel", args.engine, "-no-reboot",
                                        "-display", "curses", *words]))
        return terms[-1]

    start, wrong = time.monotonic(), None
    with tempfile.TemporaryDirectory() as directory:
        try:
            if guest:
                term = test(run, directory, args.timeout, guest)
            else:
                term = test(run, directory, args.timeout)
            term.send("\x01x")
        except Wrong as why:
            wrong = str(why)
        shown = terms[-1].screen.lines()
        status = terms[-1].end()
    if not wrong and status != 0:
        wrong = "exit status %s" % status
    if wrong:
        print(re.sub(r"\n\n+", "\n\n", "\n".join(shown)))
        print("not ok - " + wrong)
    print("%s %s, engine %s: %.1f s" % ("not ok -" if wrong else "ok -", args.case, args.engine,
                                        time.monotonic() - start))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
