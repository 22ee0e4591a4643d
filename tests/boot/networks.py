#!/usr/bin/env python3
"""Networks beside the ordinary user network: two guests joined by a stream socket, a tap device of the
host, and a user network that is closed (restrict=on) but for a forwarded port.

usage: tests/boot/networks.py ENGINE GUEST [--doppel PATH] [--guests DIR]

All happens in a network namespace of its own, where the test may make a tap device; where the host
gives none, it goes on without tap. Skipped (77) when the guest is not there.
"""
import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import guests  # noqa: E402
import machine  # noqa: E402

TIMEOUT = 300
TAP = "doppel0"
HOST = "192.168.77.1"

PEER = b"""ifconfig lo up
ip addr add 192.168.9.2/24 dev eth0
ip link set eth0 up
mkdir /www
dd if=/dev/urandom of=/www/file bs=1M count=8 2>/dev/null
md5sum </www/file >/www/sum
httpd -p 80 -h /www
echo "peer ready"
sleep 1000
"""

SCRIPT = """dmesg -n 1
check() {
    name=$1
    shift
    if "$@"; then echo "check $name ok"; else echo "check $name FAILED"; fi
}
ifconfig lo up
for card in eth0 eth1 eth2; do
    case $(cat /sys/class/net/$card/address 2>/dev/null) in
    *:01) closed=$card ;;
    *:02) stream=$card ;;
    *:03) tap=$card ;;
    esac
done
ip addr add 192.168.9.1/24 dev $stream
ip link set $stream up
check peer sh -c 'wget -q -O /file http://192.168.9.2/file && wget -q -O /sum http://192.168.9.2/sum &&
    [ "$(md5sum </file)" = "$(cat /sum)" ]'
if [ -n "$tap" ]; then
    ip addr add 192.168.77.2/24 dev $tap
    ip link set $tap up
    check tap wget -q -O /dev/null http://%s:%d/tap
fi
ip addr add 10.0.2.15/24 dev $closed
ip link set $closed up
check gateway ping -c 2 -W 60 10.0.2.2
check closed sh -c '! timeout 5 wget -q -O /dev/null http://10.0.2.2:%d/closed'
mkdir /www
cp /file /www/file
httpd -p 80 -h /www
mkdir -p /www/cgi-bin
printf '#!/bin/sh\\ntouch /fetched\\necho; echo bye\\n' >/www/cgi-bin/end
chmod 755 /www/cgi-bin/end
echo "server ready"
while [ ! -e /fetched ] && [ $((waited += 1)) -lt 300 ]; do sleep 1; done
echo "script done"
"""


class Server(http.server.ThreadingHTTPServer):
    """Notes what is asked for, on every address of the host."""

    def __init__(self):
        super().__init__(("0.0.0.0", 0), Handler)
        self.asked = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello\n")

    def log_message(self, *_):
        pass


def enter_namespace():
    """Starts this test anew inside a network namespace, if the host gives one."""
    words = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-r", "-n"]
    if not shutil.which("unshare") or not shutil.which("ip") or not succeeds(words + ["true"]):
        return
    os.execvp("unshare", words + [sys.executable, *sys.argv, "--inside"])


def succeeds(words):
    return subprocess.run(words, check=False, stderr=subprocess.DEVNULL).returncode == 0


def make_tap():
    """Is there a tap device now?"""
    commands = ("link set lo up", "tuntap add %s mode tap" % TAP, "addr add %s/24 dev %s" % (HOST, TAP),
                "link set %s up" % TAP)
    return all(succeeds(["ip"] + command.split()) for command in commands)


def card(name, network):
    return ["-netdev", network + ",id=" + name, "-device", "virtio-net-pci,netdev=%s,mac=52:54:00:00:00:%s" % (
        name, {"closed": "01", "stream": "02", "tap": "03", "peer": "04"}[name])]


def fetch(machine_, port, sums):
    """What comes through the forwarded port, once the guest serves it."""
    if machine_.wait_for("^server ready", TIMEOUT) is None:
        return
    for name in ("file", "cgi-bin/end"):
        with urllib.request.urlopen("http://127.0.0.1:%d/%s" % (port, name), timeout=300) as answer:
            sums.append(hashlib.md5(answer.read()).hexdigest())


def run(args, directory, tap):
    """Lines of what went wrong, and the guest's output."""
    kernel, base = guests.kernel_and_initrd(args, args.guest)
    server, port, link = Server(), machine.free_port(), os.path.join(directory, "link")
    script = SCRIPT.replace("%s:%d", "%s:%d" % (HOST, server.server_port)).replace("%d", str(server.server_port))
    initrds = [guests.make_initrd(base, os.path.join(directory, name), {"script": (text, True)})
               for name, text in (("peer", PEER), ("guest", script.encode()))]
    stream = "stream,addr.type=unix,addr.path=" + link
    words = guests.command(args.engine, args.doppel, kernel, initrds[0], "console=ttyS0", "256M", 1,
                           card("peer", stream + ",server=on"))
    cards = card("closed", "user,restrict=on,hostfwd=tcp:127.0.0.1:%d-:80" % port) + card("stream", stream)
    if tap:
        cards += card("tap", "tap,ifname=%s,script=no" % TAP)
    options = ["-kernel", kernel, "-initrd", initrds[1], "-append", "console=ttyS0", "-m", "256M", "-no-reboot"]
    sums, wrong = [], []
    with guests.started(words, b"peer ready", TIMEOUT) as peer:
        if not peer:
            return ["the peer did not start"], ""
        with machine.Machine(args.engine, args.doppel, options + cards) as guest:
            fetch(guest, port, sums)
            if guest.wait(TIMEOUT) != 0 or "script done" not in guest.console:
                wrong.append("the guest did not end well")
            output = guest.console
    for name in ["peer", "gateway", "closed"] + ["tap"] * bool(tap):
        if "check %s ok\n" % name not in output:
            wrong.append("check %s failed" % name)
    if len(sums) != 2:
        wrong.append("nothing came through the forwarded port")
    if server.asked != ["/tap"] * bool(tap):
        wrong.append("the host was asked for %s" % server.asked)
    return wrong, output


def main():
    parser = guests.parser(__doc__)
    parser.add_argument("guest")
    parser.add_argument("--inside", action="store_true", help="in the namespace already")
    args = parser.parse_args()
    guests.kernel_and_initrd(args, args.guest)
    if not args.inside:
        enter_namespace()
    tap = args.inside and make_tap()
    with tempfile.TemporaryDirectory() as directory:
        wrong, output = run(args, directory, tap)
    if wrong:
        print(output)
    for line in wrong:
        print("not ok - " + line)
    print("%s stream socket, closed user network%s, engine %s" % (
        "not ok -" if wrong else "ok -", ", tap" if tap else " (no tap device here)", args.engine))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
