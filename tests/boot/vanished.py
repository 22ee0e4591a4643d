#!/usr/bin/env python3
"""A Linux guest whose disk is on an NBD server that dies while the guest writes.

usage: tests/boot/vanished.py ENGINE GUEST [--doppel PATH] [--guests DIR]

With werror=stop the machine stops, and goes on when the server is back: nothing that the guest was told
is durable is missing. With werror=report the guest gets errors. A server that only keeps silent holds
neither a pause nor the end for long. Skipped (77) when the guest or qemu-nbd
is not there.
"""
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "control")]
import guests  # noqa: E402
from qmp_client import Client  # noqa: E402

BLOCK, BLOCKS = 4096, 16384
TIMEOUT = 300


class Server:
    def __init__(self, directory):
        self.image = os.path.join(directory, "image")
        self.socket = os.path.join(directory, "nbd")
        with open(self.image, "ab") as file:
            file.truncate(BLOCK * BLOCKS)
        self.start()

    def start(self):
        self.process = subprocess.Popen(["qemu-nbd", "-f", "raw", "-t", "-e", "4", "-k", self.socket, self.image])
        while not self.answers():
            time.sleep(0.01)

    def answers(self):
        """The socket's name is there before anybody listens: who connects in between is refused."""
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(self.socket) == 0

    def kill(self):
        self.process.kill()
        self.process.wait()
        os.unlink(self.socket)


class Guest:
    """The machine and the lines of its console."""

    def __init__(self, args, directory, server, policy):
        with open(os.path.join(HERE, "killed.sh"), "rb") as file:
            script = file.read()
        kernel, base = guests.kernel_and_initrd(args, args.guest)
        initrd = guests.make_initrd(base, os.path.join(directory, "initrd"), {"script": (script, True)})
        control = os.path.join(directory, "qmp")
        drive = "file=nbd+unix:///?socket=%s,format=raw,cache=writethrough,%s" % (server.socket, policy)
        words = guests.command(args.engine, args.doppel, kernel, initrd, "console=ttyS0",
                               "256M", 1, ["-drive", drive, "-qmp", "unix:%s,server=on,wait=off" % control])
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.lines = queue.Queue()
        threading.Thread(target=self.listen, daemon=True).start()
        self.qmp = Client(control)

    def listen(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(b"")

    def wait_for(self, pattern):
        while True:
            line = self.lines.get(timeout=TIMEOUT)
            if not line:
                raise AssertionError("the guest ended")
            found = re.search(pattern, line)
            if found:
                return found

    def end(self):
        self.process.kill()
        self.process.wait()
        self.qmp.close()


def expect(good, what):
    if not good:
        raise AssertionError(what)


def stop_and_go_on(args, directory):
    server = Server(directory)
    guest = Guest(args, directory, server, "werror=stop,rerror=stop")
    try:
        for _ in range(3):
            guest.wait_for(rb"durable \d+\r?\n$")
            server.kill()
            event = guest.qmp.event("BLOCK_IO_ERROR")["data"]
            expect((event["device"], event["action"]) == ("virtio0", "stop"), event)
            guest.qmp.event("STOP")
            expect(guest.qmp.command("query-status")["status"] == "io-error", "not stopped")
            expect(guest.qmp.command("query-block")[0]["io-status"] == "failed", "io-status")
            server.start()
            guest.qmp.command("cont")
            guest.qmp.event("RESUME")
            while not guest.lines.empty():
                guest.lines.get()
        last = int(guest.wait_for(rb"durable (\d+)\r?\n$").group(1))
        with open(server.image, "rb") as file:
            for n in range(last + 1):
                file.seek(n * 7919 % BLOCKS * BLOCK)
                expect(file.read(BLOCK) == b"%04095d\n" % n, "block %d was durable and is gone" % n)
    finally:
        guest.end()
        server.kill()


def report(args, directory):
    server = Server(directory)
    guest = Guest(args, directory, server, "werror=report")
    try:
        guest.wait_for(rb"durable \d+\r?\n$")
        server.kill()
        event = guest.qmp.event("BLOCK_IO_ERROR")["data"]
        expect(event["action"] == "report", event)
        expect(guest.qmp.command("query-status")["status"] == "running", "not running")
    finally:
        guest.end()


def silence(args, directory):
    """A server that says nothing holds neither a pause nor the end for long, and costs nothing when it was short."""
    server = Server(directory)
    guest = Guest(args, directory, server, "werror=stop,rerror=stop")
    try:
        guest.wait_for(rb"durable \d+\r?\n$")
        server.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        guest.qmp.command("stop")
        expect(time.monotonic() - began < 100, "the pause took %.1f s" % (time.monotonic() - began))
        server.process.send_signal(signal.SIGCONT)
        guest.qmp.command("cont")
        while not guest.lines.empty():
            guest.lines.get()
        guest.wait_for(rb"durable \d+\r?\n$")
        server.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        guest.qmp.command("quit")
        expect(guest.process.wait(100) == 0, "status")
        expect(time.monotonic() - began < 100, "the end took %.1f s" % (time.monotonic() - began))
    finally:
        guest.end()
        server.kill()


def main():
    parser = guests.parser(__doc__)
    parser.add_argument("guest")
    args = parser.parse_args()
    guests.need("qemu-nbd")
    for test in (stop_and_go_on, report, silence):
        with tempfile.TemporaryDirectory() as directory:
            test(args, directory)
            print("ok - " + test.__name__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
