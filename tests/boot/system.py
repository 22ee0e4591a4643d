#!/usr/bin/env python3
"""Boots a Debian system disk through its firmware and GRUB, works in it by ssh, and powers it off.

usage: tests/boot/system.py ENGINE raw|qcow2 [--cpus N] [--doppel PATH] [--guests DIR] [--timeout S]

The disk is what tools/disk.sh makes. The guest compiles and runs a C program, runs Python, writes
200 MiB and syncs them, reboots, finds them again, and powers off when its power button is pushed.
ENGINE is one of Doppel's, or qemu. Skipped (77) when the disk is not there.
"""
import os
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import guests  # noqa: E402
import machine  # noqa: E402

LOGIN = r"^doppel login: "
PROGRAM = """
#include <stdio.h>
int main(void)
{
    unsigned long long sum = 0;
    for (unsigned i = 1; i <= 1000000; i++)
        sum += (unsigned long long)i * i;
    printf("%llu\\n", sum);
    return 0;
}
"""
SUM = str(sum(i * i for i in range(1, 1000001)))
MEBIBYTES = 200


class Failure(Exception):
    pass


def make_disk(directory, source, form):
    """A disk that may be written: a copy-on-write layer, or for raw a sparse copy."""
    if form == "qcow2":
        disk = os.path.join(directory, "disk.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b",
                        os.path.abspath(os.path.join(source, "disk.qcow2")), disk], check=True)
        return disk
    disk = os.path.join(directory, "disk.raw")
    subprocess.run(["cp", "--sparse=always", os.path.join(source, "disk.raw"), disk], check=True)
    return disk


def expect(ssh, script, pattern, timeout):
    """Runs a script in the guest, whose output must match."""
    status, output = ssh.run(script, timeout)
    if status != 0 or not re.search(pattern, output):
        raise Failure("'%s' in the guest: status %s, output %r" % (script, status, output[-500:]))
    return re.search(pattern, output)


def work(ssh, timeout):
    """What people do in a guest."""
    expect(ssh, "cat > /root/sum.c <<'END'\n%sEND\ngcc -O2 -o /root/sum /root/sum.c && /root/sum"
           % PROGRAM, "^%s$" % SUM, timeout)
    expect(ssh, "python3 -c 'print(sum(i * i for i in range(1, 1000001)))'", "^%s$" % SUM, timeout)
    # fsync's success is dd's; the sum is of what was sent, not of what is read back.
    return expect(ssh, "dd if=/dev/urandom bs=1M count=%d 2>/dev/null | tee >(md5sum > /root/sum.md5)"
                  " | dd of=/root/data bs=1M iflag=fullblock conv=fsync 2>&1 && sync &&"
                  " cat /root/sum.md5" % MEBIBYTES, r"([0-9a-f]{32})  -", timeout).group(1)


def find_again(ssh, digest, timeout):
    expect(ssh, "echo 3 > /proc/sys/vm/drop_caches; stat -c %s /root/data",
           "^%d$" % (MEBIBYTES << 20), timeout)
    expect(ssh, "md5sum < /root/data", "^%s " % digest, timeout)
    expect(ssh, "/root/sum", "^%s$" % SUM, timeout)


def live(guest, ssh, args):
    """The guest's whole life; returns the seconds to its first login prompt."""
    seconds = guest.wait_for(LOGIN, args.timeout)
    if seconds is None:
        raise Failure("no login prompt")
    if not ssh.wait(args.timeout):
        raise Failure("no ssh")
    expect(ssh, "nproc", "^%d$" % args.cpus, args.timeout)
    digest = work(ssh, args.timeout)

    position = guest.mark()
    ssh.run("systemctl reboot", 60)
    if guest.wait_for(LOGIN, args.timeout, after=position) is None:
        raise Failure("no login prompt after the reboot")
    if not ssh.wait(args.timeout):
        raise Failure("no ssh after the reboot")
    find_again(ssh, digest, args.timeout)

    position = guest.mark()
    guest.control().call("system_powerdown")
    status = guest.wait(args.timeout)
    if status != 0:
        raise Failure("status %s after the power button" % status)
    if guest.wait_for("reboot: Power down", args.timeout, after=position) is None:
        raise Failure("the guest did not power itself off")
    return seconds


def main():
    parser = guests.parser(__doc__)
    parser.add_argument("form", choices=("raw", "qcow2"))
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--memory", default="1G")
    parser.add_argument("--timeout", type=float, default=450)
    args = parser.parse_args()

    source = os.path.join(args.guests, "disk")
    guests.need(os.path.join(source, "disk." + args.form), "ssh", "qemu-img")
    with tempfile.TemporaryDirectory() as directory:
        disk, port = make_disk(directory, source, args.form), machine.free_port()
        ssh = machine.Ssh(os.path.join(source, "key"), port)
        words = ["-m", args.memory, "-smp", str(args.cpus),
                 "-drive", "file=%s,format=%s,if=virtio" % (disk, args.form),
                 "-nic", "user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:%d-:22" % port]
        with machine.Machine(args.engine, args.doppel, words, directory) as guest:
            try:
                seconds = live(guest, ssh, args)
            except (Failure, OSError) as failure:
                guest.kill()
                print(guest.last_words())
                print("not ok - " + str(failure))
                return 1
            total = time.monotonic() - guest.start
        if args.form == "qcow2":
            subprocess.run(["qemu-img", "check", "-q", disk], check=True)
    print("ok - Debian's disk, %s, %d processor(s), engine %s: login after %.1f s, all in %.1f s" % (
        args.form, args.cpus, args.engine, seconds, total))
    return 0


if __name__ == "__main__":
    sys.exit(main())
