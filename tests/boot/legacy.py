#!/usr/bin/env python3
"""Boots the Debian system disk from an IDE disk, and uses what every PC once had: a CD, a PS/2
keyboard, a VGA. Linux's drivers judge them (its kernel has none for floppies; see screens.py).

usage: tests/boot/legacy.py ENGINE [--doppel PATH] [--guests DIR] [--timeout S]

Skipped (77) when the disk (tools/disk.sh) or xorriso is not there.
"""
import hashlib
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import guests  # noqa: E402
import machine  # noqa: E402
import system  # noqa: E402

PNG = b"\x89PNG\r\n\x1a\n"


def make_cd(directory, data):
    content = os.path.join(directory, "content")
    os.mkdir(content)
    with open(os.path.join(content, "data"), "wb") as file:
        file.write(data)
    image = os.path.join(directory, "cd.iso")
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-V", "PLATTER", "-o", image, content],
                   check=True, stderr=subprocess.DEVNULL)
    return image


def use(guest, ssh, args, data, directory):
    """Raises system.Failure with what does not work."""
    def check(script, pattern):
        system.expect(ssh, script, pattern, args.timeout)

    if guest.wait_for(system.LOGIN, args.timeout) is None:
        raise system.Failure("no login prompt")
    if not ssh.wait(args.timeout):
        raise system.Failure("no ssh")
    check("findmnt -n -o SOURCE /", "^/dev/sda")
    check("cat /sys/block/sda/device/vendor /sys/block/sr0/device/model", "ATA[^$]*DOPPEL CD-ROM")
    check("dmesg | grep ata1", "DOPPEL HARDDISK")
    check("dd if=/dev/urandom of=/root/big bs=1M count=20 conv=fsync 2>/dev/null; md5sum < /root/big >"
          " /root/sum; echo 3 > /proc/sys/vm/drop_caches; md5sum < /root/big | diff - /root/sum &&"
          " echo same", "^same$")
    check("mount -o ro /dev/sr0 /mnt && md5sum < /mnt/data; umount /mnt",
          "^%s " % hashlib.md5(data).hexdigest())
    check("cat /proc/bus/input/devices", "AT Translated Set 2 keyboard")
    check("lspci -n 2>/dev/null || cat /sys/bus/pci/devices/*/device", "1111")
    check("dmesg | grep -cE 'BUG:|Oops|Call Trace|I/O error|ata[12].*(failed|exception)'; true", "^0$")
    picture = os.path.join(directory, "screen.png")
    control = guest.control()
    control.call("screendump", filename=picture, format="png")
    with open(picture, "rb") as file:
        if file.read(8) != PNG:
            raise system.Failure("the screen is no PNG")
    control.call("system_powerdown")
    if guest.wait(args.timeout) != 0:
        raise system.Failure("the power button did nothing")


def main():
    parser = guests.parser(__doc__)
    parser.add_argument("--timeout", type=float, default=300)
    args = parser.parse_args()
    source = os.path.join(args.guests, "disk")
    guests.need(os.path.join(source, "disk.qcow2"), "ssh", "qemu-img", "xorriso")
    data = os.urandom(3 << 20)
    with tempfile.TemporaryDirectory() as directory:
        disk, port = system.make_disk(directory, source, "qcow2"), machine.free_port()
        words = ["-m", "512M", "-drive", "file=%s,format=qcow2,if=ide" % disk,
                 "-cdrom", make_cd(directory, data),
                 "-boot", "c",
                 "-nic", "user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:%d-:22" % port]
        ssh = machine.Ssh(os.path.join(source, "key"), port)
        with machine.Machine(args.engine, args.doppel, words, directory, vga=True) as guest:
            try:
                use(guest, ssh, args, data, directory)
            except (system.Failure, OSError) as failure:
                guest.kill()
                print(guest.last_words())
                print("not ok - " + str(failure))
                return 1
        subprocess.run(["qemu-img", "check", "-q", disk], check=True)
    print("ok - a PC of old, engine " + args.engine)
    return 0


if __name__ == "__main__":
    sys.exit(main())
