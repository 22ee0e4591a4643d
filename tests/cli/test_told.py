#!/usr/bin/env python3
"""What firmware is told on CMOS memory, fw_cfg and the host bridge: a ROM prints it all.

usage: test_told.py DOPPEL [unittest arguments]
"""
import os
import subprocess
import sys
import tempfile
import unittest

DOPPEL = os.path.abspath(sys.argv.pop(1))
KEYS = ((2, 16), (3, 8), (4, 2), (5, 2), (13, 8), (14, 2), (15, 2))  # fw_cfg items and their sizes
UUID = "4600cb32-38ec-4b2f-8acb-81c6ea54f2d8"


def rom():
    """16-bit code that writes to port E9h, then ends."""
    code = b"\xfa\x31\xc9"                                     # cli; xor cx,cx
    code += b"\x88\xc8\xe6\x70\xe4\x71\xe6\xe9\x41\x80\xf9\x80\x75\xf2"  # CMOS cl; inc cx; until 80h
    for key, size in KEYS:
        code += b"\xba\x10\x05\xb8" + key.to_bytes(2, "little") + b"\xef\x42"   # select; inc dx
        code += b"\xb9" + size.to_bytes(2, "little") + b"\xec\xe6\xe9\xe2\xfb"  # that many bytes
    code += b"\x66\xbb\x00\x00\x00\x80"                        # ebx: device 0's first register
    code += b"\xba\xf8\x0c\x66\x89\xd8\x66\xef\xb2\xfc\x66\xed\xb9\x04\x00"
    code += b"\xe6\xe9\x66\xc1\xe8\x08\xe2\xf8\x80\xc3\x04\x75\xe4"
    code += b"\xb0\x00\xe6\xf4\xf4"                            # debug exit
    return code.ljust(0xfff0, b"\x90") + b"\xea\x00\x00\x00\xf0".ljust(16, b"\0")


class Told(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.rom = self.file("rom", rom())

    def file(self, name, data=b"", size=0):
        path = os.path.join(self.directory.name, name)
        with open(path, "wb") as file:
            file.write(data)
            file.truncate(max(size, len(data)))
        return path

    def ask(self, *words, firmware=None):
        """CMOS memory, fw_cfg items by key, configuration space."""
        out = os.path.join(self.directory.name, "out")
        done = subprocess.run(
            [DOPPEL, "run", "-m", "64M", "-nodefaults", *(firmware or ("-bios", self.rom)),
             "-chardev", "file,id=out,path=" + out, "-device", "isa-debugcon,iobase=0xe9,chardev=out",
             "-device", "isa-debug-exit,iobase=0xf4", *words],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        with open(out, "rb") as file:
            data = file.read()
        self.assertEqual(len(data), 128 + sum(size for _, size in KEYS) + 256)
        items, at = {}, 128
        for key, size in KEYS:
            items[key] = data[at:at + size]
            at += size
        return data[:128], items, data[at:]

    def test_numbers(self):
        _, items, bridge = self.ask("-uuid", UUID, "-smp", "2", "-boot", "menu=on")
        self.assertEqual(items[2].hex(), UUID.replace("-", ""))
        for key, value in ((3, 64 << 20), (5, 2), (13, 0), (14, 1), (15, 2)):
            self.assertEqual(int.from_bytes(items[key], "little"), value, key)
        self.assertEqual(bridge[:4], b"\x86\x80\x37\x12")
        self.assertEqual(bridge[0x72], 2)

    def test_processors(self):
        for words, cpus in ((("-machine", "pc,smp.cpus=3"), 3),
                            (("-machine", "smp.sockets=2,smp.cores=2,smp.threads=1"), 4)):
            self.assertEqual(self.ask(*words)[1][5][0], cpus)

    def test_flash(self):
        drive = "if=pflash,format=raw,readonly=on,file=" + self.rom
        self.assertEqual(self.ask(firmware=("-drive", drive))[1][5], b"\1\0")

    def test_boot_order(self):
        for words, order in (
                ("", 0x1230), ("-no-fd-bootchk", 0x1231), ("-boot c", 0x0200), ("-boot nda", 0x3410),
                ("-boot order=", 0), ("-boot order= -boot order=c", 0x0200), ("-boot once=a", 0x0100),
                ("-boot once=a -no-fd-bootchk", 0x0101), ("-boot once=a,order=c", 0x0100),
                ("-boot once=d -boot order=nda", 0x0300), ("-boot once=a -boot once=b -boot once=c", 0x0200)):
            with self.subTest(words=words):
                cmos = self.ask("-nic", "none", *words.split())[0]
                self.assertEqual(cmos[0x3d] << 8 | cmos[0x38], order)

    def test_drives(self):
        large = self.file("large", size=8388608 * 512)
        cmos = self.ask("-drive", "if=ide,index=1,format=raw,file=" + large, "-cdrom", "")[0]
        self.assertEqual(cmos[0x10], 0)
        self.assertEqual((cmos[0x12], cmos[0x19], cmos[0x1a], cmos[0x39]), (0x0f, 0, 47, 0x04))
        self.assertEqual(cmos[0x1b:0x24], bytes(9))
        self.assertEqual(cmos[0x24:0x2d], bytes.fromhex("82 20 10 ff ff c8 82 20 3f"))
        self.assertIn(self.ask("-fda", "")[0][0x10], (0x40, 0x50))


if __name__ == "__main__":
    unittest.main()
