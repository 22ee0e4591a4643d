#!/usr/bin/env python3
"""The command line of doppel: each option, each error, each way of ending.

usage: tests/cli/test_run.py DOPPEL [unittest arguments]

The machines run tiny multiboot kernels, given as machine code.
"""
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

DOPPEL = ""
TIMEOUT = 300
LOAD = 0x200000

# Machine code, 32-bit protected mode. EBX points to the multiboot information.
HALT = b"\xfa\xf4\xeb\xfd"
EXIT_5 = b"\xb0\x05\xe6\xf4" + HALT                       # mov $5,%al; out %al,$0xf4
POWER_OFF = b"\x66\xba\x04\x06\x66\xb8\x00\x20\x66\xef" + HALT  # outw SLP_TYP 0 | SLP_EN, $0x604
RESET = b"\xb0\xfe\xe6\x64" + HALT                        # keyboard controller pulse
TRIPLE_FAULT = b"\x0f\x01\x1d\x00\x00\x00\x00\x0f\x0b"    # lidt 0; ud2


def serial(text, port=0x3F8):
    code = b"\x66\xba" + struct.pack("<H", port)
    return code + b"".join(b"\xb0" + bytes([c]) + b"\xee" for c in text.encode())


# Prints the string that field `offset` of the multiboot information points to.
def print_string(offset):
    return (b"\x8b\x73" + bytes([offset]) + b"\x66\xba\xf8\x03"
            b"\xac\x84\xc0\x74\x03\xee\xeb\xf8")


# Exits with the number of processors' worth of memory: mem_upper in MiB.
EXIT_MEMORY = b"\x8b\x43\x08\xc1\xe8\x0a\xe6\xf4" + HALT
# Reads a character from the serial line and exits with it.
EXIT_KEY = (b"\x66\xba\xfd\x03\xec\xa8\x01\x74\xfb\x66\xba\xf8\x03\xec\xe6\xf4" + HALT)
# The RTC's year in the century (register 9, BCD) as exit value.
EXIT_YEAR = b"\xb0\x09\xe6\x70\xe4\x71\xe6\xf4" + HALT
# CPUID leaf 1 EBX: logical processors.
EXIT_CPUS = b"\xb8\x01\x00\x00\x00\x0f\xa2\xc1\xeb\x10\x88\xd8\xe6\xf4" + HALT
# A byte to the printer whose port the BIOS data area names: data, strobe on, strobe off.
PRINT_P = (b"\x0f\xb7\x15\x08\x04\x00\x00\xb0p\xee\x83\xc2\x02\xb0\x0d\xee\xb0\x0c\xee" + EXIT_5)
# Writes 'A' to the screen, and exits with what is there.
EXIT_SCREEN = (b"\xc6\x05\x00\x80\x0b\x00A\x0f\xb6\x05\x00\x80\x0b\x00\xe6\xf4" + HALT)
# How many columns the BIOS data area says it has.
EXIT_COLUMNS = b"\xa0\x4a\x04\x00\x00\xe6\xf4" + HALT
# The first sector of a disk: real mode.
BOOT_EXIT_5 = b"\xb0\x05\xe6\xf4" + HALT
DEBUG_EXIT = ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x4"]


class Run(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def path(self, name):
        return os.path.join(self.directory.name, name)

    def file(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data)
        return self.path(name)

    def kernel(self, code):
        magic, flags = 0x1BADB002, 1 << 16
        header = struct.pack("<8I", magic, flags, -(magic + flags) & 0xFFFFFFFF, LOAD, LOAD, 0, 0,
                             LOAD + 32)
        return self.file("kernel", header + code)

    def run_doppel(self, *words, stdin=b"", env=None):
        environment = dict(os.environ, **(env or {}))
        return subprocess.run([DOPPEL, *words], input=stdin, capture_output=True, timeout=TIMEOUT,
                              env=environment, check=False)

    def run_kernel(self, code, *words, stdin=b""):
        return self.run_doppel("run", "-kernel", self.kernel(code), *DEBUG_EXIT, *words, stdin=stdin)

    def assert_error(self, status, message, *words, env=None):
        done = self.run_doppel(*words, env=env)
        text = done.stderr.decode()
        self.assertEqual(done.returncode, status, text)
        self.assertRegex(text, message)
        self.assertTrue(text.startswith("doppel: "), text)
        self.assertEqual(text.count("\n"), 1, text)
        self.assertEqual(done.stdout, b"")


class Pages(Run):
    def test_version(self):
        for word in ("--version", "-version"):
            done = self.run_doppel(word)
            self.assertRegex(done.stdout.decode(), r"^doppel \d+\.\d+\.\d+\n$")
            self.assertEqual(done.returncode, 0)

    def test_help(self):
        self.assertIn(b"usage: doppel run", self.run_doppel("help", "run").stdout)
        for words in (["--help"], ["-h"], ["help"]):
            done = self.run_doppel(*words)
            self.assertEqual(done.returncode, 0)
            self.assertIn(b"usage: doppel", done.stdout)
            self.assertIn(b"run", done.stdout)
            self.assertIn(b"QEMU", done.stdout)  # scripts look for it before they use a monitor

    def test_run_help_names_each_group_and_fits_a_screen(self):
        text = self.run_doppel("run", "--help").stdout.decode()
        for word in ("-kernel", "-initrd", "-append", "-m", "-smp", "-accel", "-serial",
                     "-no-reboot", "-stats", "Exit status", "Ctrl-a x"):
            self.assertIn(word, text)
        self.assertLessEqual(max(map(len, text.splitlines())), 96)

    def test_log_categories(self):
        text = self.run_doppel("run", "-d", "help").stdout.decode()
        for word in ("int", "cpu", "guest_errors", "in_asm", "all"):
            self.assertRegex(text, r"(?m)^%s " % word)

    def test_engines(self):
        text = self.run_doppel("run", "-accel", "help").stdout.decode()
        self.assertRegex(text, r"(?m)^sim +works here$")

    def test_lists(self):
        """Scripts look for devices in QEMU's form of the list."""
        for word in ("help", "?"):
            devices = self.run_doppel("run", "-device", word).stdout
            self.assertIn(b'name "pc-testdev"', devices)
            self.assertIn(b'name "pci-testdev"', devices)
            self.assertIn(b"kvm64\n", self.run_doppel("run", "-cpu", word).stdout)
            self.assertRegex(self.run_doppel("run", "-machine", word).stdout, b"^pc ")

    def test_no_verb(self):
        done = self.run_doppel()
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"usage:", done.stderr)


class Errors(Run):
    def test_verb(self):
        self.assert_error(2, "no verb 'fly'", "fly")

    def test_unknown_option(self):
        self.assert_error(2, "unknown option '-frob'.*--help", "run", "-frob")

    def test_word_without_dash(self):
        self.assert_error(2, "'vmlinuz' is not an option.*-kernel", "run", "vmlinuz")
        kernel = self.kernel(HALT)  # no disk
        self.assert_error(2, "is not an option.*-kernel", "run", kernel)
        self.assert_error(2, "is not an option.*-kernel", kernel)
        self.assert_error(2, "no verb '/nowhere/disk'", "/nowhere/disk")

    def test_image_without_option(self):
        disk = self.file("disk", BOOT_EXIT_5.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 16))
        for words in ((disk, *DEBUG_EXIT), (*DEBUG_EXIT, disk), ("run", *DEBUG_EXIT, disk)):
            self.assertEqual(self.run_doppel(*words).returncode, 11)

    def test_serial_by_device(self):
        out = self.path("out")
        line = ("-chardev", "file,id=c,path=" + out, "-device")
        done = self.run_kernel(serial("hello") + EXIT_5, *line, "isa-serial,chardev=c,index=0")
        self.assertEqual(done.returncode, 11)
        with open(out, "rb") as file:
            self.assertEqual(file.read(), b"hello")
        self.assert_error(2, "no chardev=ID", "run", "-device", "isa-serial")
        self.assert_error(2, "index: '1'", "run", *line, "isa-serial,chardev=c,index=1")

    def test_screen_by_device(self):
        done = self.run_kernel(EXIT_SCREEN, "-nodefaults", "-device", "sga", "-device", "VGA")
        self.assertEqual(done.returncode, ord("A") * 2 + 1)

    def test_taken_and_left_out(self):
        done = self.run_kernel(EXIT_5, "-usb", "-audiodev", "none,id=a", "-d", "cpu_reset,pcall")
        self.assertEqual(done.returncode, 11)
        self.assertRegex(done.stderr.decode(), "^doppel: warning: -usb")
        self.assert_error(2, "no sound", "run", "-audiodev", "alsa,id=a")

    def test_missing_argument(self):
        for option in ("-kernel", "-m", "-smp", "-append"):
            self.assert_error(2, option + " needs an argument", "run", option)

    def test_argument_not_wanted(self):
        self.assert_error(2, "takes no argument", "run", "--no-reboot=1")

    def test_memory(self):
        for size in ("0", "1M", "17G", "x", "12Q", "-5", "99999999999999999999", "1e9", "4M4", ""):
            self.assert_error(2, "^doppel: -m: ", "run", "-m", size)
        self.assert_error(2, "maxmem", "run", "-m", "1G,maxmem=2G")

    def test_processors(self):
        for count in ("0", "65", "x", "cpus=0", "sockets=0", "cores=65", "sockets=33,cores=2"):
            self.assert_error(2, "^doppel: -smp: ", "run", "-smp", count)

    def test_engine(self):
        self.assert_error(2, "no engine 'warp'.*sim", "run", "-accel", "warp")
        self.assert_error(2, "thread=many", "run", "-accel", "tcg,thread=many")

    def test_processor_model(self):
        kernel = self.kernel(HALT)
        self.assert_error(2, "pentium9", "run", "-kernel", kernel, "-cpu", "pentium9")
        self.assert_error(2, "frobnicate", "run", "-kernel", kernel, "-cpu", "max,+frobnicate")
        self.assert_error(2, "vendor=Zilog", "run", "-kernel", kernel, "-cpu", "max,vendor=Zilog")
        self.assert_error(2, "phys-bits=99", "run", "-kernel", kernel, "-cpu", "max,phys-bits=99")

    def test_machine(self):
        self.assert_error(2, "'isapc' is not supported.*pc", "run", "-M", "isapc")

    def test_serial(self):
        self.assert_error(2, "'udp::1' is not supported", "run", "-serial", "udp::1")
        self.assert_error(2, "only one", "run", "-serial", "stdio", "-serial", "mon:stdio")
        self.assert_error(2, "2 serial lines", *["run"] + ["-serial", "null"] * 3)
        self.assert_error(3, "-serial: cannot write '/nowhere/log'", "run", "-kernel", self.kernel(HALT),
                          "-serial", "file:/nowhere/log")

    def test_devices(self):
        self.assert_error(2, "'e1000' is not supported.*virtio", "run", "-device", "e1000")
        self.assert_error(2, "'virtio-gpu-pci' is not supported yet", "run", "-device",
                          "virtio-gpu-pci")
        self.assert_error(2, "no device 'teapot'", "run", "-device", "teapot")
        self.assert_error(2, "no property 'x'", "run", "-device", "isa-debug-exit,x=1")
        self.assert_error(2, "iobase: '0x10000'", "run", "-device", "isa-debug-exit,iobase=0x10000")

    def test_not_supported_by_name(self):
        for option in ("-gdb", "-s", "-loadvm", "-enable-kvm"):
            self.assert_error(2, "^doppel: %s is not supported: " % option, "run", option)

    def test_none_only(self):
        self.assert_error(2, "give none", "run", "-vnc", "gtk")

    def test_display(self):
        self.assert_error(2, "there are curses and none", "run", "-display", "gtk")
        self.assert_error(2, "-display curses has the terminal", "run", "-display", "curses",
                          "-serial", "stdio")

    def test_adapter(self):
        self.assert_error(2, "there are std and none", "run", "-vga", "qxl")

    def test_monitors(self):
        for text, words in (
                ("'gtk' is not supported", ["-monitor", "gtk"]),
                ("no port", ["-qmp", "tcp:localhost"]),
                ("address is missing", ["-qmp", "unix:"]),
                ("'reconnect' is not supported", ["-qmp", "unix:x,reconnect=1"]),
                ("no -chardev with id=c", ["-mon", "chardev=c"]),
                ("no chardev=ID", ["-mon", "mode=control"]),
                ("mode=fast", ["-chardev", "null,id=c", "-mon", "chardev=c,mode=fast"]),
                ("in use by another.*mux=on", ["-chardev", "null,id=c", "-mon", "c", "-serial", "chardev:c"]),
                ("no path=PATH", ["-chardev", "socket,id=c"]),
                ("'braille' is not supported", ["-chardev", "braille,id=c"]),
                ("more than 8 monitors", ["-qmp", "null"] * 9),
                ("only one", ["-qmp", "stdio", "-serial", "stdio"]),
                ("is not 8-4-4-4-12", ["-uuid", "7"]),
                ("'panic=frob' is not supported", ["-action", "panic=frob"]),
                ("there is no terminal", ["-daemonize", "-serial", "stdio"]),
                ("'frob' is not supported", ["-name", "frob=1"])):
            self.assert_error(2, text, "run", "-kernel", self.kernel(HALT), *words)

    def test_clock(self):
        for base in ("noon", "2031-05", "2031-05-06 07:08:09", "2031-05-06T07"):
            self.assert_error(2, "base '%s'" % base, "run", "-rtc", "base=" + base)
        self.assert_error(2, "'drift'", "run", "-rtc", "drift=slew")

    def test_log(self):
        self.assert_error(2, "-d: unknown category", "run", "-d", "int,everything")
        self.assert_error(3, "-D: cannot write", "run", "-kernel", "x", "-D", "/nowhere/log")

    def test_initrd_without_kernel(self):
        self.assert_error(2, "-initrd needs a -kernel", "run", "-initrd", "x")

    def test_default_guest_absent(self):
        self.assert_error(2, "make run", "run", env={"DOPPEL_GUEST": "/nowhere"})

    def test_files(self):
        # The words by which kvm-unit-tests' scripts know that a monitor got as far as this.
        self.assert_error(3, "could not load kernel: cannot open '/nowhere/k'", "run", "-kernel",
                          "/nowhere/k")
        self.assert_error(3, "regular file", "run", "-kernel", "/")
        self.assert_error(3, "no Linux bzImage", "run", "-kernel", self.file("junk", b"junk" * 99))
        self.assert_error(3, "no Linux bzImage", "run", "-kernel", self.file("empty", b""))
        self.assert_error(3, "-initrd: cannot open", "run", "-kernel", self.kernel(HALT), "-initrd",
                          "/nowhere/i")


class Endings(Run):
    def test_debug_exit(self):
        self.assertEqual(self.run_kernel(EXIT_5).returncode, 11)

    def test_parallel(self):
        out = self.path("lpt")
        self.assertEqual(self.run_kernel(PRINT_P, "-parallel", "file:" + out).returncode, 11)
        with open(out, "rb") as file:
            self.assertEqual(file.read(), b"p")
        self.assert_error(2, "one parallel port", "run", "-parallel", "null", "-parallel", "null")

    def test_screen_of_a_multiboot_kernel(self):
        self.assertEqual(self.run_kernel(EXIT_SCREEN).returncode, ord("A") * 2 + 1)
        self.assertEqual(self.run_kernel(EXIT_SCREEN, "-nodefaults").returncode, 255)
        self.assertEqual(self.run_kernel(EXIT_SCREEN, "-vga", "none").returncode, 255)
        self.assertEqual(self.run_kernel(EXIT_COLUMNS).returncode, 80 * 2 + 1)

    def test_power_off(self):
        self.assertEqual(self.run_kernel(POWER_OFF).returncode, 0)

    def test_reset_with_no_reboot(self):
        self.assertEqual(self.run_kernel(RESET, "-no-reboot").returncode, 0)

    def test_reset_starts_again(self):
        # Counts starts in memory: RAM outlives a reset, the image is loaded again.
        again = b"\xff\x05\x00\x00\x30\x00\x83\x3d\x00\x00\x30\x00\x03\x75\x04" + b"\xb0\x05\xe6\xf4"
        self.assertEqual(self.run_kernel(again + RESET).returncode, 11)

    def test_triple_fault(self):
        done = self.run_kernel(TRIPLE_FAULT, "-no-reboot")
        self.assertEqual(done.returncode, 4)
        self.assertRegex(done.stderr.decode(), "^doppel: .*triple fault")

    def test_leave_keys(self):
        self.assertEqual(self.run_kernel(HALT, stdin=b"\x01x").returncode, 0)

    def test_signals(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with subprocess.Popen([DOPPEL, "run", "-kernel", self.kernel(serial("up") + HALT)],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
                self.assertEqual(process.stdout.read(2), b"up")
                process.send_signal(number)
                self.assertEqual(process.wait(TIMEOUT), 128 + number)


class Options(Run):
    def test_run_verb_may_be_left_out(self):
        done = self.run_doppel("-kernel", self.kernel(EXIT_5), *DEBUG_EXIT)
        self.assertEqual(done.returncode, 11)

    def test_dashes_and_equals(self):
        done = self.run_doppel("run", "--kernel=" + self.kernel(EXIT_5), "--device=isa-debug-exit")
        self.assertEqual(done.returncode, 11)

    def test_conformance_suite_line(self):
        echo = b"\xb0\x05\xe6\xe1\xe4\xe9\xe6\xf4" + HALT  # out 0xe1, 5; in 0xe9; out 0xf4
        done = self.run_doppel("run", "-nodefaults", "-device", "pc-testdev", *DEBUG_EXIT, "-vnc",
                               "none", "-serial", "stdio", "-device", "pci-testdev", "-machine",
                               "accel=bt,kernel_irqchip=split,pit=on", "-no-reboot", "-global",
                               "kvm-pit.lost_tick_policy=discard", "-kernel", self.kernel(echo),
                               "-smp", "1")
        self.assertEqual(done.returncode, 11)
        self.assert_error(2, "no property 'x'", "run", "-device", "pc-testdev,x=1")

    def test_without_timer(self):
        port = b"\xe4\x61\xe6\xf4" + HALT  # in 0x61; out 0xf4
        done = self.run_kernel(port, "-machine", "pit=off")
        self.assertEqual(done.returncode, 0xff)

    def test_starts_whatever_the_address_space_looks_like(self):
        kernel = self.kernel(EXIT_5)  # the layout is random: once, one start in eight failed
        for _ in range(20):
            done = self.run_doppel("run", "-kernel", kernel, *DEBUG_EXIT, "-m", "3G", "-smp", "2")
            self.assertEqual((done.returncode, done.stderr), (11, b""))

    def test_syzkaller_line(self):
        done = self.run_kernel(serial("hello") + EXIT_5, "-m", "2048", "-smp", "2", "-display", "none",
                               "-serial", "stdio", "-no-reboot", "-append", "console=ttyS0")
        self.assertEqual((done.returncode, done.stdout), (11, b"hello"))

    def test_large_memory_leaves_room_for_the_translator(self):
        # Where things lie in our address space is random, hence several times.
        for _ in range(25):
            done = self.run_kernel(EXIT_5, "-m", "4G", "-smp", "2")
            self.assertEqual((done.returncode, done.stderr), (11, b""))

    def test_kvm_unit_tests_line(self):
        done = self.run_kernel(serial("hello") + EXIT_5, "-nodefaults", "-vnc", "none", "-serial",
                               "stdio", "-machine", "accel=sim", "-no-user-config", "-monitor", "none",
                               "-nic", "none", "-vga", "none", "-name", "test", "-nographic")
        self.assertEqual((done.returncode, done.stdout), (11, b"hello"))

    def test_nodefaults_has_no_serial(self):
        done = self.run_kernel(serial("hello") + EXIT_5, "-nodefaults")
        self.assertEqual((done.returncode, done.stdout), (11, b""))

    def test_memory(self):
        for size, mib in (("64M", 63), ("64", 63), ("0.0625G", None), ("size=48M", 47), ("65536K", 63)):
            if mib:
                done = self.run_kernel(EXIT_MEMORY, "-m", size)
                self.assertEqual(done.returncode, (mib << 1 | 1) & 0xFF, size)

    def test_processors(self):
        # One processor may leave the field empty.
        for word, count in (("1", 0), ("2", 2), ("cpus=4", 4)):
            done = self.run_kernel(EXIT_CPUS, "-smp", word)
            self.assertEqual(done.returncode, count << 1 | 1, word)

    def test_append(self):
        done = self.run_kernel(print_string(16) + EXIT_5, "-append", "one two")
        self.assertEqual(done.stdout, self.path("kernel").encode() + b" one two")

    def test_modules(self):
        first, second = self.file("first", b"1"), self.file("second", b"2")
        # The second module's string: mods_addr, entry 1, field 8.
        code = (b"\x8b\x43\x18\x8b\x70\x18\x66\xba\xf8\x03" b"\xac\x84\xc0\x74\x03\xee\xeb\xf8")
        done = self.run_kernel(code + EXIT_5, "-initrd", "%s,%s with words" % (first, second))
        self.assertEqual(done.stdout.decode(), second + " with words")

    def test_engine_lists(self):
        for words in (["-accel", "sim"], ["-accel", "kvm", "-accel", "sim"], ["-accel", "direct:sim"],
                      ["-accel", "auto"], ["-M", "pc,accel=sim"]):
            done = self.run_kernel(EXIT_5, *words)
            self.assertEqual(done.returncode, 11, words)

    def test_processor_models(self):
        for model in ("max", "host", "x86-64-v2", "x86-64-v2,-popcnt", "qemu64,+x2apic,+tsc-deadline",
                      "qemu64,-pcid,+invpcid", "kvm64,+rdtscp", "max,vendor=GenuineIntel",
                      "Opteron_G1,vendor=AuthenticAMD", "EPYC-v4", "host,migratable=no,-vmx",
                      "IvyBridge,phys-bits=36,host-phys-bits=off"):
            self.assertEqual(self.run_kernel(EXIT_5, "-cpu", model).returncode, 11, model)

    def test_processor_vendor(self):
        vendor = b"\x31\xc0\x0f\xa2\x88\xc8\xe6\xf4" + HALT  # cpuid 0; the last word's first letter
        for name, letter in (("GenuineIntel", b"n"), ("AuthenticAMD", b"c")):
            done = self.run_kernel(vendor, "-cpu", "max,vendor=" + name)
            self.assertEqual(done.returncode, (letter[0] * 2 + 1) & 255, name)

    def test_unused_network(self):
        done = self.run_kernel(EXIT_5, "-netdev", "user,id=n1", "-netdev", "user,id=n2", "-nic", "user",
                               "-device", "virtio-net-pci,netdev=n2")
        self.assertEqual(done.returncode, 11)
        self.assertRegex(done.stderr.decode(), "^doppel: warning: -netdev n1: no device uses it; .*\n$")

    def test_features_that_cannot_be_had(self):
        done = self.run_kernel(EXIT_5, "-cpu", "max,+vmx,hv_time,+svm")
        self.assertEqual(done.returncode, 11)
        self.assertRegex(done.stderr.decode(), "^doppel: warning: .*: vmx hv_time svm\n$")
        self.assert_error(2, "'svm' cannot be had", "run", "-kernel", self.kernel(EXIT_5), "-cpu",
                          "max,enforce,+svm")

    def test_serial_file(self):
        path = self.path("out")
        done = self.run_kernel(serial("to a file") + EXIT_5, "-serial", "file:" + path)
        self.assertEqual((done.returncode, done.stdout), (11, b""))
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"to a file")

    def test_serial_null(self):
        done = self.run_kernel(serial("lost") + EXIT_5, "-serial", "null")
        self.assertEqual((done.returncode, done.stdout), (11, b""))

    def test_two_serial_lines(self):
        path = self.path("out")
        done = self.run_kernel(serial("one") + serial("two", 0x2F8) + EXIT_5, "-serial", "stdio",
                               "-serial", "file:" + path)
        self.assertEqual(done.stdout, b"one")
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"two")

    def test_serial_pty(self):
        with subprocess.Popen([DOPPEL, "run", "-kernel", self.kernel(EXIT_KEY), *DEBUG_EXIT, "-serial",
                               "pty"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            line = process.stderr.readline().decode()
            name = re.search(r"/dev/pts/\d+", line).group(0)
            with open(name, "wb", buffering=0) as terminal:
                terminal.write(b"*")
                self.assertEqual(process.wait(TIMEOUT), (ord("*") << 1 | 1) & 0xFF)

    def test_input(self):
        self.assertEqual(self.run_kernel(EXIT_KEY, stdin=b"!").returncode, ord("!") << 1 | 1)

    def test_input_waits_for_room(self):
        # Twenty bytes for a FIFO of one; the guest waits for the first, empties it by turning the FIFO on,
        # then reads.
        first = b"\x66\xba\xfd\x03\xec\xa8\x01\x74\xfb"  # mov dx, 3fdh; in al, dx; test al, 1; jz
        enable = b"\x66\xba\xfa\x03\xb0\x07\xee"
        settle = b"\xb9\x00\x00\x00\x10\x49\x75\xfd"
        done = self.run_kernel(first + settle + enable + EXIT_KEY, stdin=b"a" + b"!" * 19)
        self.assertEqual(done.returncode, ord("!") << 1 | 1)

    def test_ctrl_a_twice_sends_it(self):
        self.assertEqual(self.run_kernel(EXIT_KEY, stdin=b"\x01\x01").returncode, 3)

    def test_help_key(self):
        done = self.run_kernel(EXIT_KEY, stdin=b"\x01h!")
        self.assertIn(b"Ctrl-a x", done.stderr)
        self.assertEqual(done.returncode, ord("!") << 1 | 1)

    def test_clock(self):
        done = self.run_kernel(EXIT_YEAR, "-rtc", "base=2031-05-06T07:08:09")
        self.assertEqual(done.returncode, 0x31 << 1 | 1)
        self.assertEqual(self.run_kernel(EXIT_YEAR, "-rtc", "base=2031-05-06").returncode, 0x31 << 1 | 1)
        for base in ("utc", "localtime", "utc,clock=host"):
            done = self.run_kernel(EXIT_YEAR, "-rtc", "base=" + base)
            year = int(time.strftime("%y"), 16)
            self.assertEqual(done.returncode, (year << 1 | 1) & 0xFF)

    def test_debug_exit_elsewhere(self):
        code = b"\xb0\x05\x66\xba\x01\x05\xee" + HALT
        done = self.run_doppel("run", "-kernel", self.kernel(code), "-device",
                               "isa-debug-exit,iobase=0x501,iosize=2")
        self.assertEqual(done.returncode, 11)

    def test_stats(self):
        text = self.run_kernel(EXIT_5, "-stats").stderr.decode()
        for name in ("machine.memory_touched_bytes", "machine.virtual_ns", "cpu0.exits"):
            self.assertRegex(text, r"(?m)^%s \d+$" % re.escape(name))

    def test_verbose(self):
        self.assertIn(b"engine sim", self.run_kernel(EXIT_5, "-v", "-accel", "sim").stderr)

    def test_log_file(self):
        path = self.path("log")
        done = self.run_kernel(TRIPLE_FAULT, "-no-reboot", "-d", "int,guest_errors", "-D", path)
        self.assertEqual(done.returncode, 4)
        with open(path, "rb") as file:
            self.assertNotEqual(file.read(), b"")

    def test_port_e9_console(self):
        done = self.run_kernel(b"\xb0" + b"Z" + b"\xe6\xe9" + EXIT_5)
        self.assertEqual(done.stdout, b"Z")


class Terminal(Run):
    """On a terminal: raw while the machine runs, and as it was when doppel is gone."""

    def start(self, code, *words):
        master, slave = pty.openpty()
        before = termios.tcgetattr(slave)
        kernel = self.kernel(code)

        def become_leader():
            os.setsid()
            import fcntl
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        process = subprocess.Popen([DOPPEL, "run", "-kernel", kernel, *DEBUG_EXIT, *words],
                                   stdin=slave, stdout=slave, stderr=slave, preexec_fn=become_leader)
        self.addCleanup(os.close, master)
        self.addCleanup(os.close, slave)
        self.read_until(master, b"up")
        return process, master, slave, before

    def read_until(self, master, text):
        seen = b""
        deadline = time.monotonic() + TIMEOUT
        while text not in seen and time.monotonic() < deadline:
            if select.select([master], [], [], 1)[0]:
                seen += os.read(master, 1024)
        self.assertIn(text, seen)

    def check(self, end, *words, code=serial("up") + HALT):
        process, master, slave, before = self.start(code, *words)
        during = termios.tcgetattr(slave)
        self.assertFalse(during[3] & (termios.ICANON | termios.ECHO))
        end(process, master)
        process.wait(TIMEOUT)
        self.assertEqual(termios.tcgetattr(slave), before)
        return process.returncode

    def test_leave(self):
        self.assertEqual(self.check(lambda process, master: os.write(master, b"\x01x")), 0)

    def test_signal(self):
        self.assertEqual(self.check(lambda process, master: process.terminate()), 128 + 15)

    def test_crash(self):
        for number in (signal.SIGABRT, signal.SIGSEGV):
            status = self.check(lambda process, master: process.send_signal(number))
            self.assertEqual(status, -number)

    def test_guest_ends(self):
        code = serial("up") + EXIT_KEY
        self.assertEqual(self.check(lambda process, master: os.write(master, b"\x02"), code=code), 5)

    def test_ctrl_c_goes_to_the_guest(self):
        code = serial("up") + EXIT_KEY
        self.assertEqual(self.check(lambda process, master: os.write(master, b"\x03"), code=code), 7)

    def test_ctrl_c_ends_plain_stdio(self):
        status = self.check(lambda process, master: os.write(master, b"\x03"), "-serial", "stdio")
        self.assertEqual(status, 128 + signal.SIGINT)


if __name__ == "__main__":
    DOPPEL = sys.argv.pop(1)
    unittest.main()
