#!/usr/bin/env python3
"""Cells where the host allows less: which engine `-accel auto` takes, and what it says.

usage: tests/direct/confined.py DOPPEL [unittest arguments]

Each case starts doppel under a seccomp profile of its own, as containers do, or as another user.
"""
import ctypes
import errno
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

DOPPEL = ""
SKIPPED = 77
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LOAD, JUMP_EQUAL, ANSWER = 0x20, 0x15, 0x06
SYS_PRCTL, PR_SET_SYSCALL_USER_DISPATCH = 157, 59
SYS_SECCOMP = 317
# What Docker's default profile refuses to a container without privileges.
DOCKER = [101, 103, 133, 134, 139, 153, 155, 156, 161, 163, 165, 166, 167, 168, 169, 170,
          172, 173, 174, 175, 176, 179, 180, 237, 238, 239, 246, 248, 249, 250, 256, 272, 279, 298,
          303, 304, 308, 310, 311, 312, 313, 320, 321, 323, 425, 426, 427, 428, 429, 430, 431, 432,
          433, 442]
# A multiboot kernel: mov $5,%al; out %al,$0xf4.
EXIT_5 = b"\xb0\x05\xe6\xf4\xfa\xf4\xeb\xfd"


def refuse(numbers, first_argument=None):
    """Makes this process's system calls of those numbers fail with EPERM."""
    code = [(LOAD, 0, 0, 0)]
    for number in numbers:
        if first_argument is None:
            code += [(JUMP_EQUAL, 0, 1, number), (ANSWER, 0, 0, ERRNO | errno.EPERM)]
        else:
            code += [(JUMP_EQUAL, 0, 3, number), (LOAD, 0, 0, 16),
                     (JUMP_EQUAL, 0, 1, first_argument), (ANSWER, 0, 0, ERRNO | errno.EPERM)]
    code.append((ANSWER, 0, 0, ALLOW))
    program = b"".join(struct.pack("<HBBI", *line) for line in code)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if (libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or
            libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0)):
        os._exit(126)


class Confined(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="doppel-confined.")
        os.chmod(self.directory.name, 0o755)
        self.kernel = os.path.join(self.directory.name, "kernel")
        load = 0x200000
        magic, flags = 0x1BADB002, 0x10000
        header = struct.pack("<8I", magic, flags, -(magic + flags) & 0xFFFFFFFF, load, load, 0, 0,
                             load + 32)
        with open(self.kernel, "wb") as file:
            file.write(header + EXIT_5)
        os.chmod(self.kernel, 0o644)

    def tearDown(self):
        self.directory.cleanup()

    def run_doppel(self, *words, program=None, **options):
        done = subprocess.run([program or DOPPEL, "run", "-v", "-kernel", self.kernel, "-m", "16M", "-nographic",
                               "-device", "isa-debug-exit,iobase=0xf4,iosize=4", *words],
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=False,
                              **options)
        return done.returncode, done.stderr.decode()

    def test_auto(self):
        status, text = self.run_doppel()
        self.assertEqual(status, 11, text)
        self.assertIn("engine direct\n", text)

    def test_without_dispatch(self):
        status, text = self.run_doppel(
            preexec_fn=lambda: refuse([SYS_PRCTL], PR_SET_SYSCALL_USER_DISPATCH))
        self.assertEqual(status, 11, text)
        self.assertRegex(text, r"engine bt \(direct: .*Syscall User Dispatch")

    def test_without_seccomp(self):
        status, text = self.run_doppel(preexec_fn=lambda: refuse([SYS_SECCOMP]))
        self.assertEqual(status, 11, text)
        self.assertRegex(text, r"engine bt \(direct: ")

    def test_asked_for(self):
        status, text = self.run_doppel("-accel", "direct", preexec_fn=lambda: refuse([SYS_SECCOMP]))
        self.assertEqual(status, 2, text)
        self.assertRegex(text, r"no engine can run here \(direct: ")

    def test_container(self):
        status, text = self.run_doppel("-accel", "direct", preexec_fn=lambda: refuse(DOCKER))
        self.assertEqual(status, 11, text)

    @unittest.skipIf(os.getuid() != 0, "is another user already")
    def test_nobody(self):
        reachable = shutil.copy(DOPPEL, self.directory.name)  # the build may be in a closed home
        status, text = self.run_doppel("-accel", "direct", program=reachable, user=65534,
                                       group=65534, extra_groups=[])
        self.assertEqual(status, 11, text)


def main():
    global DOPPEL
    DOPPEL = os.path.abspath(sys.argv[1])
    listing = subprocess.run([DOPPEL, "run", "-accel", "help"], capture_output=True, text=True,
                             check=True).stdout
    if platform.machine() != "x86_64" or "direct         works" not in listing:
        print("SKIP: cells cannot run here")
        sys.exit(SKIPPED)
    unittest.main(argv=[sys.argv[0]] + sys.argv[2:])


if __name__ == "__main__":
    main()
