#!/usr/bin/env python3
"""Disks, networks and virtio devices on the command line: what is refused, and how.

usage: test_plugs.py DOPPEL [unittest arguments]
"""
import os
import subprocess
import sys
import tempfile
import time
import unittest

DOPPEL = os.path.abspath(sys.argv.pop(1))


class Plugs(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.disk = os.path.join(self.directory.name, "disk")
        with open(self.disk, "wb") as file:
            file.truncate(1 << 20)
        self.kernel = os.path.join(self.directory.name, "kernel")
        with open(self.kernel, "wb") as file:
            file.write(b"no kernel")

    def refused(self, status, text, *words):
        done = subprocess.run([DOPPEL, "run", "-kernel", self.kernel, *words], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=300, check=False)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertIn(text, done.stderr)

    def test_drive(self):
        file = "file=" + self.disk
        for text, words in (
                ("formats are never guessed", file),
                ("format 'vmdk' is not supported", file + ",format=vmdk"),
                ("no file", "format=raw"),
                ("if=scsi", file + ",format=raw,if=scsi"),
                ("cache='fast'", file + ",format=raw,cache=fast"),
                ("werror=maybe", file + ",format=raw,werror=maybe"),
                ("rerror=enospc", file + ",format=raw,rerror=enospc"),
                ("neither on nor off", file + ",format=raw,readonly=maybe"),
                ("cache.direct", file + ",format=raw,cache.direct=maybe"),
                ("not supported, but off", file + ",format=raw,copy-on-read=on"),
                ("index", file + ",format=raw,if=virtio,index=256"),
                ("no room for all IDE", file + ",format=raw,if=ide,bus=2"),
                ("'frob' is not supported", file + ",format=raw,frob=1")):
            with self.subTest(words=words):
                self.refused(2, text, "-drive", words)
        for words in ("if=virtio,index=7,detect-zeroes=off,copy-on-read=off",
                      "cache.writeback=on,cache.direct=off,cache.no-flush=off"):
            self.refused(3, "is no Linux bzImage", "-drive", file + ",format=raw," + words)

    def test_files_by_option(self):
        """Who cannot open a file names the option that it was given by."""
        nowhere, empty, pipe = (os.path.join(self.directory.name, name) for name in ("nowhere", "empty", "pipe"))
        with open(empty, "wb"):
            pass
        os.mkfifo(pipe)
        for option in ("-hda", "-cdrom", "-fda"):
            self.refused(3, "%s: cannot open '%s'" % (option, nowhere), option, nowhere)
            self.refused(3, "%s: '%s' is empty" % (option, empty), option, empty)
            self.refused(3, "%s: '%s' is neither a file nor a block device" % (option, pipe), option, pipe)
        self.refused(3, "-drive: '%s' is empty" % empty, "-drive", "format=raw,file=" + empty)
        self.refused(3, "-drive: '%s' is no qcow2 image" % empty, "-drive", "format=qcow2,file=" + empty)
        self.refused(3, "-fw_cfg: cannot open", "-fw_cfg", "name=opt/x,file=" + nowhere)
        self.refused(3, "-qmp: cannot listen on '%s/socket':" % nowhere, "-qmp", "unix:%s/socket,server=on" % nowhere)

    def test_flash(self):
        flash = "if=pflash,format=raw,file=" + self.disk
        self.refused(3, "no Linux kernel image", "-drive", flash)
        self.refused(2, "no unit=0", "-drive", flash + ",unit=1")
        self.refused(2, "give one", "-drive", flash, "-bios", self.disk)
        self.refused(2, "no room for all pflash drives", *(["-drive", flash] * 3))
        self.refused(2, "give one", "-pflash", self.disk, "-bios", self.disk)

    def test_old_net(self):
        bad = "no Linux bzImage"  # the kernel: all options were taken
        for status, text, words in (
                (3, bad, "none"), (3, bad, "nic user"),
                (3, bad, "user,hostfwd=tcp::0-:22 nic,model=virtio,macaddr=52:54:00:12:34:56"),
                (2, "-nic user stands for both", "nic"), (2, "-nic user stands for both", "user"),
                (2, "give each by -nic", "nic nic user"), (2, "model=e1000", "nic,model=e1000 user"),
                (2, "'hubport' is not supported", "nic hubport")):
            with self.subTest(words=words):
                self.refused(status, text, *(word for net in words.split() for word in ("-net", net)))

    def test_firmware_words(self):
        for text, words in (
                ("order 'x'", ("-boot", "x")), ("once 'cdna'", ("-boot", "once=cdna")),
                ("strict", ("-boot", "strict=maybe")), ("reboot-timeout", ("-boot", "reboot-timeout=-2")),
                ("'frob' is not supported", ("-boot", "frob=1")),
                ("no name=NAME", ("-fw_cfg", "string=x")), ("no name=NAME", ("-fw_cfg", "n" * 56 + ",string=x")),
                ("either string=TEXT or file=FILE", ("-fw_cfg", "name=opt/x")),
                ("either string=TEXT or file=FILE", ("-fw_cfg", "opt/x,string=a,file=b")),
                ("begin with type=N", ("-smbios", "serial=1")), ("no 'frob'", ("-smbios", "type=1,frob=1")),
                ("has no value", ("-smbios", "type=1,serial")), ("hexadecimal", ("-smbios", "type=1,uuid=1")),
                ("type 9 cannot be set", ("-smbios", "type=9,x=1")),
                ("not sockets x cores x threads", ("-smp", "4,sockets=3")),
                ("not maxcpus", ("-smp", "2,maxcpus=4")), ("is not supported", ("-smp", "2,frob=4")),
                ("the one machine is 'pc'", ("-machine", "microvm")),
                ("the one machine is 'pc'", ("-machine", "pc,usb=on")),
                ("not sockets x cores x threads", ("-machine", "pc,smp.cpus=3,smp.sockets=2")),
                ("is not supported", ("-machine", "smp.frob=1")), ("no sound", ("-audio", "alsa")),
                ("'secret' is not supported", ("-object", "secret,id=s"))):
            with self.subTest(words=words):
                self.refused(2, text, *words)
        self.refused(3, "is no Linux bzImage", "-audio", "none", "-drive",
                     "if=none,id=d,format=raw,auto-read-only=off,file=" + self.disk)
        stream = "stream,id=n,addr.type=unix,addr.path=%s," % os.path.join(self.directory.name, "s")
        self.refused(3, "is no Linux bzImage", "-netdev", stream + "server=true,addr.ipv4=on,addr.ipv6=no")
        self.refused(2, "addr.ipv6=on", "-netdev", stream + "addr.ipv6=on")
        self.refused(2, "neither on nor off", "-netdev", stream + "server=maybe")
        self.refused(3, "is no Linux bzImage", "-smp", "4,sockets=2,cores=2", "-machine", "pc-i440fx-7.2,usb=off,accel=tcg",
                     "-rtc", "base=utc,clock=vm,driftfix=slew", "-object", "rng-random,id=r,filename=/dev/urandom",
                     "-boot", "order=c,once=d,menu=on,splash-time=100,strict=on,reboot-timeout=-1")

    def test_device(self):
        drive = ("-drive", "file=%s,format=raw,if=none,id=d" % self.disk)
        self.refused(2, "no drive=ID", "-device", "virtio-blk-pci")
        self.refused(2, "no -drive with id=d", "-device", "virtio-blk-pci,drive=d")
        self.refused(2, "in use by another device", *drive, "-device", "virtio-blk-pci,drive=d",
                     "-device", "virtio-blk-pci,drive=d")
        self.refused(2, "num-queues", *drive, "-device", "virtio-blk-pci,drive=d,num-queues=0")
        self.refused(2, "no property 'frob'", "-device", "virtio-rng-pci,frob=1")
        self.refused(2, "packed", *drive, "-device", "virtio-blk-pci,drive=d,packed=maybe")
        self.refused(2, "no property 'packed'", "-device", "virtio-rng-pci,packed=on")
        self.refused(2, "no netdev=ID", "-device", "virtio-net-pci")
        self.refused(2, "no -netdev with id=n", "-device", "virtio-net-pci,netdev=n")
        self.refused(2, "mac=", "-nic", "user,mac=01:00:00:00:00:00")
        self.refused(2, "no chardev=ID", "-device", "virtconsole")
        self.refused(2, "one balloon", "-device", "virtio-balloon-pci", "-device", "virtio-balloon-pci")

    @staticmethod
    def has(path, text):
        if not os.path.exists(path):
            return False
        with open(path, "rb") as file:
            return text in file.read()

    def test_debug_port(self):
        log = os.path.join(os.path.dirname(self.disk), "log")
        words = [DOPPEL, "run", "-debugcon", "file:" + log, "-global", "isa-debugcon.iobase=0x402", "-serial", "null",
                 "-drive", "file=%s,format=raw" % self.disk]
        with subprocess.Popen(words, stdin=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 300
            while time.monotonic() < deadline and not self.has(log, b"SeaBIOS"):
                time.sleep(0.05)
            process.kill()
        self.assertTrue(self.has(log, b"SeaBIOS"))
        self.refused(2, "'braille:x' is not supported", "-debugcon", "braille:x")
        self.refused(2, "iobase", "-global", "isa-debugcon.iobase=70000")

    def test_names_before_their_definitions(self):
        self.refused(3, "kernel", "-device", "virtio-blk-pci,drive=d", "-serial", "chardev:c", "-device",
                     "virtio-net-pci,netdev=n", "-device", "virtio-9p-pci,fsdev=f,mount_tag=t",
                     "-drive", "file=%s,format=raw,if=none,id=d" % self.disk, "-chardev", "null,id=c",
                     "-netdev", "user,id=n", "-fsdev", "local,id=f,path=/tmp,security_model=none")

    def test_names_once(self):
        drive = "if=none,id=x,format=raw,file=" + self.disk
        for words in (["-drive", drive], ["-netdev", "user,id=x"], ["-chardev", "null,id=x"],
                      ["-fsdev", "local,id=x,path=/tmp"], ["-device", "virtio-rng-pci,id=x"]):
            with self.subTest(words=words):
                self.refused(2, words[0] + ": there is an id=x already", *words, *words)
        self.refused(3, "is no Linux bzImage", "-drive", drive, "-netdev", "user,id=x", "-chardev", "null,id=x")

    def test_ide_and_floppy(self):
        file = "file=%s,format=raw" % self.disk
        self.refused(2, "media=tape", "-drive", file + ",media=tape")
        self.refused(2, "index", "-drive", file + ",if=ide,index=4")
        self.refused(2, "two want the same place", "-hda", self.disk, "-drive", file + ",if=ide,index=0")
        self.refused(2, "two want the same place", "-cdrom", self.disk, "-hdc", self.disk)
        self.refused(2, "two want the same place", "-hdd", self.disk, "-drive", file + ",if=ide,bus=1,unit=1")
        self.refused(2, "no room for all floppy", *("-drive", file + ",if=floppy") * 3)
        self.refused(2, "bus=ide.2", "-drive", file + ",if=none,id=d", "-device",
                     "ide-hd,drive=d,bus=ide.2")
        self.refused(2, "no drive=ID", "-device", "ide-hd")
        self.refused(2, "bootindex", "-drive", file + ",if=none,id=d", "-device",
                     "ide-hd,drive=d,bootindex=first")
        with open(self.disk, "wb") as image:
            image.write(b"QFI\xfb")
        self.refused(2, "is a qcow2 image; use -drive file=FILE,format=qcow2,if=ide", "-hdb", self.disk)
        os.truncate(self.disk, 5 << 30)
        self.refused(2, "is a qcow2 image", "-hdb", self.disk)

    def test_shares(self):
        for text, words in (
                ("'proxy' is not supported", ["-virtfs", "proxy,path=/tmp"]),
                ("no path=DIR", ["-virtfs", "local,mount_tag=t"]),
                ("no mount_tag=TAG", ["-virtfs", "local,path=/tmp"]),
                ("security_model=lax", ["-virtfs", "local,path=/tmp,mount_tag=t,security_model=lax"]),
                ("'frob' is not supported", ["-virtfs", "local,path=/tmp,mount_tag=t,frob=1"]),
                ("no id=ID", ["-fsdev", "local,path=/tmp"]),
                ("no free -fsdev with id=x", ["-device", "virtio-9p-pci,fsdev=x,mount_tag=t"]),
                ("no fsdev=ID", ["-device", "virtio-9p-pci"])):
            with self.subTest(words=words):
                self.refused(2, text, *words)

    def test_network(self):
        for text, words in (
                ("'bridge' is not supported", "bridge"),
                ("hostfwd", "user,hostfwd=tcp:22"),
                ("-netdev hostfwd port", "user,hostfwd=tcp::99999-:22"),
                ("neither tcp: nor udp:", "user,hostfwd=sctp::1-:2"),
                ("not an IPv4 address", "user,dns=here"),
                ("no addr.path", "stream"),
                ("no ifname", "tap")):
            with self.subTest(words=words):
                self.refused(2, text, "-nic", words)
        self.refused(2, "no id=ID", "-netdev", "user")

    def test_server_spares_files(self):
        """A server takes the place of a socket that a machine left behind, never of a file."""
        for status, words in ((3, ["-nic", "stream,server=on,addr.type=unix,addr.path=" + self.disk]),
                              (3, ["-serial", "unix:%s,server=on,wait=off" % self.disk])):
            with self.subTest(words=words):
                self.refused(status, "cannot listen on", *words)
                self.assertTrue(os.path.isfile(self.disk))

    def test_comma_in_name(self):
        """A doubled comma is one of the name's own, as in QEMU."""
        self.refused(3, "kernel", "-drive", "format=raw,file=" + self.disk)
        os.rename(self.disk, self.disk + ",1")
        self.refused(2, "'1' is not supported", "-drive", "format=raw,file=%s,1" % self.disk)
        self.refused(3, "kernel", "-drive", "format=raw,file=%s,,1" % self.disk)


if __name__ == "__main__":
    unittest.main(verbosity=1)
