#!/usr/bin/env python3
"""Boots systems that are no Linux, or not only: hypervisors, firmware, an installer.

usage: tests/boot/others.py ENGINE SYSTEM [--cpus N] [--doppel PATH] [--guests DIR] [--timeout S]

A system is a row of SYSTEMS: its files (tools/guest.sh fetches them), options, and a dialogue on the
serial line: what must appear, and what is typed then. ENGINE is one of Doppel's, or qemu. Skipped
(77) when a file is not there.
"""
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import guests  # noqa: E402
import machine  # noqa: E402
import screens  # noqa: E402

END = "end"  # instead of a pattern: the machine must have ended, with status 0

TO_SHELL_AND_BACK = [(r"^/ # ", "echo sum $((6 * 7)); poweroff\n"), ("^sum 42\n", None), (END, None)]

# U-Boot runs the VGA BIOS with real mode's limits of 64 KiB, beyond which that BIOS reads: #GP on a
# processor, and no stop on QEMU, which checks no limits. So it goes without a screen.
SYSTEMS = {
    "xen": {
        "files": ["xen/xen-4.17-amd64", "generic/vmlinuz", "generic/initrd"],
        "words": ["-m", "1G", "-kernel", "{0}", "-initrd", "{1} console=hvc0,{2}", "-append",
                  "console=com1 com1=115200 loglvl=all"],
        "dialogue": [(r"^\(XEN\) Brought up {cpus} CPUs", None), (r"\*\*\* Building a PV Dom0", None),
                     (r"^/ # ", "cat /sys/hypervisor/type; nproc; echo sum $((6 * 7))\n"),
                     (r"^xen\n{cpus}\nsum 42\n", "poweroff\n"),
                     (r"^\(XEN\) Entering ACPI S5 state", None), (END, None)],
    },
    # The same from a CD: SeaBIOS, GRUB and multiboot2.
    "xen-grub": {
        "files": ["xen/xen-4.17-amd64", "generic/vmlinuz", "generic/initrd"],
        "cd": "set timeout=0\nmenuentry xen {\n insmod multiboot2\n"
              " multiboot2 /boot/xen-4.17-amd64 console=com1 com1=115200\n"
              " module2 /boot/vmlinuz console=hvc0\n module2 /boot/initrd\n}\n",
        "words": ["-m", "1G", "-cdrom", "{cd}", "-boot", "d", "-vga", "none"],
        "dialogue": [(r"^\(XEN\) Command line: console=com1", None),
                     (r"^/ # ", "cat /sys/hypervisor/type; echo sum $((6 * 7))\n"),
                     (r"^xen\nsum 42\n", "poweroff\n"),
                     (r"^\(XEN\) Entering ACPI S5 state", None), (END, None)],
    },
    "mach": {
        "files": ["mach/gnumach-1.8-486"],
        "words": ["-m", "256M", "-kernel", "{0}", "-append", "console=com0"],
        # Its servers are another system's; without them it must get exactly this far.
        "dialogue": [("^GNU Mach 1", None), ("vm_page: DMA32: pages: 61440", None),
                     ("^RTC time is 20", None), ("No bootstrap code loaded with the kernel", None)],
    },
    "uboot": {
        "files": ["uboot/u-boot.rom"],
        "words": ["-m", "256M", "-bios", "{0}", "-vga", "none", "-nic", "none"],
        "dialogue": [("^DRAM:  256 MiB", None), ("Hit any key to stop autoboot", " "),
                     ("^=> ", "version\n"), ("^U-Boot 2023.*\n(?:.*\n)*=> ", "mw.l 100000 12345678 40; "
                                             "crc32 100000 100\n"),
                     ("crc32 for 00100000 ... 001000ff ==> 896c1fea", "reset\n"),
                     ("^U-Boot(?:.*\n)*.*Hit any key", None)],
    },
    "ovmf": {
        "files": ["ovmf/OVMF.fd"],
        "words": ["-m", "512M", "-bios", "{0}", "-vga", "none", "-nic", "none"],
        "dialogue": [("EFI Internal Shell", None), ("Press .*ESC", "\x1b"),
                     (r"Shell> ", "memmap\r"), (r"Total Memory: +5\d\d MB", "reset -s\r"), (END, None)],
    },
    # Kernels whose set-up code runs in real mode and calls the BIOS.
    "ipxe-kernel": {
        "files": ["/usr/lib/ipxe/ipxe.lkrn"],
        # Its own way to the prompt is a key within two seconds, which may pass on a busy host.
        "words": ["-m", "128M", "-kernel", "{0}", "-append", "shell", "-vga", "none", "-nic",
                  "user,model=virtio-net-pci"],
        "dialogue": [("^.*iPXE 1", None), ("iPXE> ", "dhcp\n"),
                     (r"Configuring \(net0 .*ok", "show ip\n"), ("ip:ipv4 = 10.0.2.15", None)],
    },
    "grub-kernel": {
        "files": ["/usr/lib/grub/i386-pc/lnxboot.img"],
        "words": ["-m", "128M", "-kernel", "{grub}", "-append", "x", "-vga", "none"],
        "dialogue": [("grub>", "echo $root\r"), ("hd0", "halt\r"), (END, None)],
    },
    # A floppy as the RAM disk of a kernel that is a BIOS's drive A: itself.
    "memdisk": {
        "files": ["/usr/lib/syslinux/memdisk"],
        "words": ["-m", "64M", "-kernel", "{0}", "-initrd", "{floppy}", "-append", "floppy c=80 h=2 s=18"],
        "dialogue": [("^MEMDISK", None), ("boot sector", None), ("far track", None), ("written", None),
                     ("type: ", "dir\r"), ("thank yo", None)],
    },
    # Debian's own, started by firmware: what -kernel does by itself where there is none.
    "kernel-seabios": {
        "files": ["cloud/vmlinuz", "cloud/initrd", "/usr/share/seabios/bios-256k.bin"],
        "words": ["-m", "256M", "-kernel", "{0}", "-initrd", "{1}", "-bios", "{2}", "-append",
                  "console=ttyS0", "-vga", "none"],
        "dialogue": [("BIOS-provided physical RAM map", None), *TO_SHELL_AND_BACK],
    },
    "kernel-ovmf": {
        "files": ["generic/vmlinuz", "generic/initrd", "ovmf/OVMF.fd"],
        "words": ["-m", "512M", "-kernel", "{0}", "-initrd", "{1}", "-bios", "{2}", "-append",
                  "console=ttyS0", "-vga", "none", "-nic", "none"],
        "dialogue": [("efi: EFI v2", None), ("ACPI: FACP", None), *TO_SHELL_AND_BACK],
    },
    # From a CD without emulation of a disk, and from a FAT partition behind an MBR.
    "isolinux": {
        "files": ["cloud/vmlinuz", "cloud/initrd", "/usr/lib/ISOLINUX/isolinux.bin",
                  "/usr/lib/syslinux/modules/bios/ldlinux.c32"],
        "words": ["-m", "256M", "-cdrom", "{isolinux}", "-vga", "none"],
        "dialogue": [("^ISOLINUX", None), (r"^.*boot: ", "linux\r"), *TO_SHELL_AND_BACK],
    },
    "syslinux": {
        "files": ["cloud/vmlinuz", "cloud/initrd", "/usr/lib/SYSLINUX/mbr.bin", "/usr/bin/syslinux"],
        "words": ["-m", "256M", "-hda", "{syslinux}", "-vga", "none"],
        "dialogue": [("^SYSLINUX", None), (r"^.*boot: ", "linux\r"), *TO_SHELL_AND_BACK],
    },
    "installer": {
        "files": ["installer/linux", "installer/initrd.gz"],
        "words": ["-m", "1G", "-kernel", "{0}", "-initrd", "{1}", "-append",
                  "console=ttyS0 DEBIAN_FRONTEND=text", "-nic", "user,model=virtio-net-pci"],
        "dialogue": [("Select a language", None), (r"Prompt: .*> ", "C\n"),
                     ("Select your location|Continent or region|Country", None)],
    },
}


def make_grub(directory, header):
    """GRUB's image for BIOSes behind the header of a Linux kernel."""
    core, image = os.path.join(directory, "core.img"), os.path.join(directory, "grub.img")
    subprocess.run(["grub-mkimage", "-O", "i386-pc", "-p", "/none", "-o", core, "normal", "echo", "halt"],
                   check=True)
    with open(image, "wb") as file:
        for name in (header, core):
            with open(name, "rb") as part:
                file.write(part.read())
    return image


SYSLINUX = """PROMPT 1
DEFAULT none
LABEL linux
 KERNEL /vmlinuz
 APPEND initrd=/initrd console=ttyS0
"""


def make_isolinux(directory, files):
    """A CD with a kernel, ISOLINUX, and its menu; the loader fills in a table in its first sector."""
    tree, image = os.path.join(directory, "tree"), os.path.join(directory, "cd.iso")
    os.mkdir(tree)
    for name in files:
        shutil.copy(name, tree)
    with open(os.path.join(tree, "isolinux.cfg"), "w", encoding="ascii") as file:
        file.write(SYSLINUX)
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", image, "-b", "isolinux.bin", "-c", "boot.cat",
                    "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", tree], check=True)
    return image


def make_syslinux(directory, kernel, initrd, boot_record):
    """A disk with one active FAT16 partition at 1 MiB, with a kernel and SYSLINUX."""
    partition, image = os.path.join(directory, "fat"), os.path.join(directory, "disk")
    config = os.path.join(directory, "syslinux.cfg")
    with open(config, "w", encoding="ascii") as file:
        file.write(SYSLINUX)
    sectors = 63 << 11
    with open(partition, "wb") as file:
        file.truncate(sectors * 512)
    environment = dict(os.environ, MTOOLS_SKIP_CHECK="1")
    for command in (["mformat", "-i", partition, "-T", str(sectors), "-H", "2048", "-h", "16", "-s", "63", "::"],
                    ["mcopy", "-i", partition, kernel, "::vmlinuz"],
                    ["mcopy", "-i", partition, initrd, "::initrd"],
                    ["mcopy", "-i", partition, config, "::"], ["syslinux", "--install", partition]):
        subprocess.run(command, env=environment, check=True)
    with open(boot_record, "rb") as file:
        record = file.read()
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x0e, b"\xfe\xff\xff", 2048, sectors)
    with open(image, "wb") as disk, open(partition, "rb") as file:
        disk.write(record.ljust(446, b"\0") + entry.ljust(64, b"\0") + b"\x55\xaa")
        disk.seek(1 << 20)
        shutil.copyfileobj(file, disk)
    return image


def talk(guest, dialogue, cpus, timeout):
    """What went wrong, or None."""
    position = 0
    for pattern, answer in dialogue:
        if pattern == END:
            status = guest.wait(timeout)
            if status != 0:
                return "status %s at the end" % status
            continue
        pattern = pattern.replace("{cpus}", str(cpus))
        if guest.wait_for(pattern, timeout, after=position) is None:
            return "no '%s'" % pattern
        if answer:
            position = guest.mark()
            for letter in answer:
                guest.type(letter)
    return None


def main():
    parser = guests.parser(__doc__)
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=450)
    args = parser.parse_args()

    system = SYSTEMS[args.system]
    files = [os.path.join(args.guests, name) for name in system["files"]]
    guests.need(*files)
    words = ["-smp", str(args.cpus), "-no-reboot"] if args.system != "uboot" else []
    words += [re.sub(r"\{(\d)\}", lambda m: files[int(m[1])], word) for word in system["words"]]
    if "cd" in system and not shutil.which("grub-mkrescue"):
        print("SKIP: no grub-mkrescue")
        return SKIPPED
    with tempfile.TemporaryDirectory() as directory:
        made = {"{cd}": lambda: screens.make_cd(directory, system["cd"], *files),
                "{floppy}": lambda: screens.make_floppy(directory, "floppy"),
                "{grub}": lambda: make_grub(directory, files[0]),
                "{isolinux}": lambda: make_isolinux(directory, files),
                "{syslinux}": lambda: make_syslinux(directory, *files[:3])}
        words = [made[word]() if word in made else word for word in words]
        return run(args, words, system)


def run(args, words, system):
    with machine.Machine(args.engine, args.doppel, words, vga="-vga" in words) as guest:
        wrong = talk(guest, system["dialogue"], args.cpus, args.timeout)
        if wrong:
            guest.kill()
            print(guest.last_words(6000))
            print("not ok - %s, engine %s: %s" % (args.system, args.engine, wrong))
            return 1
    print("ok - %s, %d processor(s), engine %s" % (args.system, args.cpus, args.engine))
    return 0


if __name__ == "__main__":
    sys.exit(main())
