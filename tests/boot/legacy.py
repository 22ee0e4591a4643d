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
import time

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
    check("/sbin/fstrim -v / || fstrim -v /", "bytes\\) trimmed")
    check("mount -o ro /dev/sr0 /mnt && md5sum < /mnt/data; umount /mnt",
          "^%s " % hashlib.md5(data).hexdigest())
    check("cat /proc/bus/input/devices", "AT Translated Set 2 keyboard")
    check("lspci -n 2>/dev/null || cat /sys/bus/pci/devices/*/device", "1111")
    check("dmesg | grep -cE 'BUG:|Oops|Call Trace|I/O error|ata[12].*(failed|exception)'; true", "^0$")
    media(guest, args, check, directory)
    picture = os.path.join(directory, "screen.png")
    control = guest.control()
    control.call("screendump", filename=picture, format="png")
    with open(picture, "rb") as file:
        if file.read(8) != PNG:
            raise system.Failure("the screen is no PNG")
    control.call("system_powerdown")
    if guest.wait(args.timeout) != 0:
        raise system.Failure("the power button did nothing")


def media(guest, args, check, directory):
    """The disc is exchanged behind the guest's back, and then taken out though it is mounted."""
    control = guest.control()
    other = os.path.join(directory, "other")
    os.mkdir(other)
    cd = make_cd(other, b"another disc")
    deadline = time.monotonic() + args.timeout
    while True:  # who looks at a disc locks the drive
        try:
            control.call("blockdev-change-medium", device="ide1-cd0", filename=cd)
            break
        except OSError as error:
            if time.monotonic() > deadline or "is locked" not in str(error):
                raise
            time.sleep(1)
    check("mount -o ro /dev/sr0 /mnt && cat /mnt/data", "^another disc")
    try:
        control.call("eject", device="ide1-cd0")
        raise system.Failure("a locked drive opened")
    except OSError as error:
        if "is locked" not in str(error):
            raise
    check("umount /mnt 2>/dev/null; sleep 3; echo done", "^done$")
    control.call("eject", device="ide1-cd0", force=True)
    check("dd if=/dev/sr0 of=/dev/null count=1 2>&1; true", "No medium")
    if control.events.count("DEVICE_TRAY_MOVED") < 3:
        raise system.Failure("no word of the tray")
    control.socket.close()


def main():
    parser = guests.parser(__doc__)
    parser.add_argument("--timeout", type=float, default=300)
    args = parser.parse_args()
    source = os.path.join(args.guests, "disk")
    guests.need(os.path.join(source, "disk.qcow2"), "ssh", "qemu-img", "xorriso")
    data = os.urandom(3 << 20)
    with tempfile.TemporaryDirectory() as directory:
        disk, port = system.make_disk(directory, source, "qcow2"), machine.free_port()
        words = ["-m", "512M", "-drive", "file=%s,format=qcow2,if=ide,discard=unmap" % disk,
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
