#!/usr/bin/env python3
"""Boots an unmodified Debian kernel with disks, a network and every virtio device, and uses them.

usage: tests/boot/devices.py ENGINE GUEST [--cpus N] [--doppel PATH] [--guests DIR] [--timeout S]

The guest runs devices.sh. Afterwards the images must be sound and hold what was written. Skipped
(77) when the guest, mke2fs or qemu-img is not there.
"""
import hashlib
import http.server
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "control")]
import guests  # noqa: E402
from qmp_client import Client  # noqa: E402

MEMORY = 512  # MiB


class Server:
    """What the guest talks to: /file and /sum, and what became of our own download from
    it; /statistics, what its balloon tells."""

    def __init__(self, forward, monitor):
        self.data = os.urandom(3 << 20)
        self.forward = forward
        self.monitor = monitor
        self.fetched = None
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                status, body = server.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def statistics_come(self):
        """The guest's memory as its balloon tells it, asked for a second time."""
        balloon = {"path": "/machine/peripheral/balloon"}
        qmp = Client(self.monitor)
        first = qmp.command("qom-get", property="guest-stats", **balloon)
        qmp.command("qom-set", property="guest-stats-polling-interval", value=1, **balloon)
        told = first
        while told["last-update"] in (0, first["last-update"]):
            time.sleep(0.2)
            told = qmp.command("qom-get", property="guest-stats", **balloon)
        stats = told["stats"]
        return (abs(told["last-update"] - time.time()) < 60 and
                0 < stats["stat-free-memory"] < stats["stat-total-memory"] < MEMORY << 20 and
                stats["stat-total-memory"] > MEMORY << 19)

    def answer(self, path):
        if path == "/file":
            return 200, self.data
        if path == "/sum":
            return 200, (hashlib.md5(self.data).hexdigest() + "  -\n").encode()
        if path == "/fetched":
            try:
                with urllib.request.urlopen("http://127.0.0.1:%d/file" % self.forward, timeout=300) as answer:
                    self.fetched = answer.read()
            except OSError:
                return 503, b""
            return 200, b""
        if path == "/statistics" and self.statistics_come():
            return 200, b"good"
        if path == "/good" and self.fetched == self.data:
            return 200, b"good"
        return 404, b""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_disk(directory, name, form):
    """An ext4 file system with a file that says hello; as raw or qcow2."""
    content = os.path.join(directory, "content-" + name)
    os.mkdir(content)
    with open(os.path.join(content, "hello"), "w", encoding="ascii") as file:
        file.write("hello %s\n" % name)
    raw = os.path.join(directory, name + ".raw")
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", content, raw, "64M"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if form == "raw":
        return raw
    image = os.path.join(directory, name + ".qcow2")
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image], check=True)
    return image


def disk_problems(directory, raw, qcow2, untouched, before):
    """What is wrong with the images after the guest is gone."""
    if subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", qcow2], check=False).returncode != 0:
        yield "qemu-img check finds the image damaged"
    copy = os.path.join(directory, "copy.raw")
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", qcow2, copy], check=True)
    for image in (raw, copy):
        done = subprocess.run(["e2fsck", "-fn", image], check=False, capture_output=True, text=True)
        if done.returncode != 0:
            yield "e2fsck on %s: %s" % (image, done.stdout)
    with open(untouched, "rb") as file:
        if file.read() != before:
            yield "snapshot or readonly disk was written"


def main():
    parser = guests.parser(__doc__)
    parser.add_argument("guest")
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=2200)
    parser.add_argument("--packed", action="store_true", help="packed rings, where the device has them")
    args = parser.parse_args()

    kernel, base = guests.kernel_and_initrd(args, args.guest)
    guests.need("mke2fs", "qemu-img")
    with open(os.path.join(HERE, "devices.sh"), "rb") as file:
        script = file.read()
    checks = re.findall(r"^check (\w+) ", script.decode(), re.MULTILINE)
    with tempfile.TemporaryDirectory() as directory:
        initrd = guests.make_initrd(base, os.path.join(directory, "initrd"), {"script": (script, True)})
        raw = make_disk(directory, "raw", "raw")
        qcow2 = make_disk(directory, "qcow2", "qcow2")
        untouched = make_disk(directory, "untouched", "raw")
        with open(untouched, "rb") as file:
            before = file.read()
        console = os.path.join(directory, "console")
        forward = free_port()
        monitor = os.path.join(directory, "monitor")
        server = Server(forward, monitor)
        packed = ",packed=on" if args.packed else ""
        words = guests.command(
            args.engine, args.doppel, kernel, initrd,
            "console=ttyS0 doppel.packed=%d doppel.url=http://10.0.2.2:%d" % (args.packed, server.port), "%dM" % MEMORY, args.cpus,
            ["-drive", "file=%s,format=raw,serial=raw,discard=unmap" % raw,
             "-drive", "file=%s,format=qcow2,serial=qcow2,if=none,id=q,discard=unmap" % qcow2,
             "-device", "virtio-blk-pci,drive=q" + packed,
             "-drive", "file=%s,format=raw,serial=snapshot,snapshot=on" % untouched,
             "-drive", "file=%s,format=raw,serial=readonly,readonly=on" % untouched,
             "-netdev", "user,id=n,hostfwd=tcp:127.0.0.1:%d-:80" % forward,
             "-device", "virtio-net-pci,netdev=n" + packed,
             "-device", "virtio-rng-pci", "-device", "virtio-balloon-pci,id=balloon,free-page-reporting=on",
             "-qmp", "unix:%s,server=on,wait=off" % monitor,
             "-chardev", "file,id=c,path=" + console, "-device", "virtconsole,chardev=c"])
        result = guests.boot(words, args.timeout)
        wrong = ["check %s failed" % name for name in checks if "check %s ok\n" % name not in result.output]
        if result.status != 0 or "script done\n" not in result.output:
            wrong.append("the guest ended with status %s" % result.status)
        wrong += disk_problems(directory, raw, qcow2, untouched, before)
        with open(console, encoding="utf-8", errors="replace") as file:
            if "hello console" not in file.read():
                wrong.append("nothing came out of the console")
    if wrong:
        print(result.output)
        print(result.errors)
    for line in wrong:
        print("not ok - " + line)
    print("%s devices, %s, %d processor(s), engine %s: %.1f s" % (
        "not ok -" if wrong else "ok -", args.guest, args.cpus, args.engine, result.seconds))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
