#!/usr/bin/env python3
"""Disks on an NBD server (qemu-nbd): the image over TCP and UNIX sockets, and servers that go away.

usage: test_nbd.py IMAGE_TOOL [unittest arguments]
"""
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

TOOL = os.path.abspath(sys.argv.pop(1))
TIMEOUT = 300


class Nbd(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="doppel-nbd-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.image = os.path.join(self.dir, "image")
        self.socket = os.path.join(self.dir, "socket")
        with open(self.image, "wb") as file:
            file.truncate(16 << 20)
        self.address = "nbd+unix:///?socket=" + self.socket

    def server(self, *words, where=None):
        process = subprocess.Popen(["qemu-nbd", "-f", "raw", "-t", *(where or ["-k", self.socket]), *words, self.image])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        deadline = time.monotonic() + TIMEOUT
        while not (where or self.answers()):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        return process

    def answers(self):
        """The socket's name is there before anybody listens: who connects in between is refused."""
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(self.socket) == 0

    def tool(self, *words, address=None, status=0, message=""):
        done = subprocess.run([TOOL, address or self.address, *words], capture_output=True, text=True,
                              timeout=TIMEOUT, check=False)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertIn(message, done.stderr)
        return done

    def test_torture(self):
        self.server("--discard=unmap", "-e", "8")
        self.tool("raw", "write", "3", "1000")
        self.tool("raw", "verify", "3", "1000")
        self.tool("raw", "torture", "1", "3000", "zeroes")
        self.tool("raw,writethrough", "torture", "2", "500", "zeroes")
        self.tool("raw", "dump", os.path.join(self.dir, "copy"))
        self.assertEqual(subprocess.run(["cmp", self.image, os.path.join(self.dir, "copy")], check=False).returncode, 0)

    def test_spellings(self):
        self.server("-x", "disk")
        for address in ("nbd+unix:///disk?socket=" + self.socket, "nbd:unix:%s:exportname=disk" % self.socket):
            self.tool("raw", "torture", "1", "50", address=address)
        self.tool("raw", "dump", "/dev/null", status=1, message="cannot connect")

    def test_tcp(self):
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = str(sock.getsockname()[1])
        self.server(where=["-b", "127.0.0.1", "-p", port])
        deadline = time.monotonic() + TIMEOUT
        while subprocess.run(["qemu-img", "info", "nbd://127.0.0.1:" + port], capture_output=True,
                             check=False).returncode:
            self.assertLess(time.monotonic(), deadline)
        self.tool("raw", "torture", "1", "200", address="nbd://127.0.0.1:%s/" % port)
        self.tool("raw", "torture", "1", "200", address="nbd:127.0.0.1:" + port)

    def test_read_only(self):
        self.server("-r")
        self.tool("raw", "dump", "/dev/null", status=1, message="readonly=on")
        self.tool("raw,readonly", "dump", "/dev/null")

    def test_qcow2_over_nbd(self):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", self.image, "4M"], check=True)
        with open(self.image, "r+b") as file:
            file.truncate(16 << 20)
        self.server()
        self.tool("qcow2", "torture", "1", "200")

    def test_nobody_there(self):
        self.tool("raw", "dump", "/dev/null", status=1, message="cannot connect")
        self.tool("raw", "dump", "/dev/null", address="nbd://127.0.0.1:1/x", status=1, message="cannot connect")
        self.tool("raw", "dump", "/dev/null", address="nbd:nowhere", status=1, message="cannot connect")

    def test_a_name_in_an_image_leads_nowhere(self):
        self.server()
        top = os.path.join(self.dir, "top")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", self.address, "-F", "raw", top, "1M"],
                       check=True)
        self.tool("qcow2", "dump", "/dev/null", address=top, status=1, message="cannot open")

    def test_server_dies(self):
        """What was written fails at once, and what was flushed is there."""
        for number in (signal.SIGKILL, signal.SIGTERM):
            server = self.server()
            writer = subprocess.Popen([TOOL, self.address, "raw", "write", "5", "100000000"], stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, text=True)
            durable = writer.stdout.readline()
            for _ in range(10):
                durable = writer.stdout.readline()
            server.send_signal(number)
            started = time.monotonic()
            rest, errors = writer.communicate(timeout=TIMEOUT)
            self.assertLess(time.monotonic() - started, 100)
            self.assertEqual(writer.returncode, 1)
            self.assertRegex(errors, "^(write|flush)")
            durable = (rest.split() or [durable])[-1]
            server.wait()
            self.tool("raw", "verify", "5", str(int(durable)), address=self.image)
            os.unlink(self.socket) if os.path.exists(self.socket) else None

    def test_promises_are_kept_over_a_new_connection(self):
        """A server that comes back serves on, but not when it may have lost what it had acknowledged."""
        for words, status in (("steady", 0), ("promised", 1)):
            server = self.server()
            process = subprocess.Popen([TOOL, self.address, "raw", words, "0"], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.assertEqual(process.stdout.readline(), "ready\n")
            server.kill()
            server.wait()
            os.unlink(self.socket)
            self.server()
            _, errors = process.communicate("go\n", timeout=TIMEOUT)
            self.assertEqual(process.returncode, status, errors)
            os.unlink(self.socket)


if __name__ == "__main__":
    unittest.main(verbosity=1)
