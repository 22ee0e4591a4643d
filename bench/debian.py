#!/usr/bin/env python3
"""Debian's programs, natively, on the engines and on QEMU TCG, as bench.py's table.

usage: bench/debian.py [--engines direct,bt,tcg] [--runs N] [--only NAME,...] [--build DIR] [--guests DIR]

The same userland (tools/userland.sh) is the guest's and, in a chroot of a user namespace, the host's.
Python's loop, luajit's with code that is made and thrown away, gzip of 100 MiB, gcc -O2 of 5,000
lines, openssl's AES, SHA-256 and RSA.
"""
import argparse
import os
import subprocess
import sys
import tarfile
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tests/boot"))
import bench  # noqa: E402
import guests  # noqa: E402
import programs  # noqa: E402

NAMES = ["python", "luajit", "gzip", "gcc", "aes", "sha256", "rsa"]
SCRIPT = os.path.join(HERE, "guest/debian.sh")


def parse(text):
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[0] in NAMES:
            found[words[0]] = (float(words[1]), words[2])
    return found


def run_native(root, names):
    """The programs on the bare machine."""
    command = ["unshare", "-r", "chroot", root, "/bin/bash", "/debian.sh", ",".join(names)]
    return parse(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def make_initrd(directory, directory_of_guests, names):
    with open(SCRIPT, "rb") as file:
        script = file.read()
    lines = ["export PATH=/usr/sbin:/usr/bin:/sbin:/bin", f"echo {bench.BOOT_MARK.decode()}",
             "mount -t devtmpfs dev /deb/dev", f"chroot /deb /bin/bash /debian.sh {','.join(names)}",
             f"echo {bench.END_MARK.decode()}", ""]
    return guests.make_initrd(os.path.join(directory_of_guests, "cloud/initrd"),
                              os.path.join(directory, "initrd"),
                              {"deb/debian.sh": (script, True),
                               "script": ("\n".join(lines).encode(), True)},
                              programs.deb_entries(os.path.join(directory_of_guests, "userland.tar")))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", default="direct,bt,tcg")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--build", default="build")
    parser.add_argument("--guests", default="build/guest")
    args = parser.parse_args()
    archive = os.path.join(args.guests, "userland.tar")
    if not os.path.exists(archive):
        sys.exit("bench: no userland (make userland)")
    names = args.only.split(",") if args.only else NAMES
    with tempfile.TemporaryDirectory(prefix="doppel-debian.") as directory:
        root = os.path.join(directory, "root")
        with tarfile.open(archive) as tar:
            members = [member for member in tar if not member.isdev()]
            tar.extractall(root, members=members)
        with open(SCRIPT, "rb") as source, open(os.path.join(root, "debian.sh"), "wb") as copy:
            copy.write(source.read())
        os.makedirs(os.path.join(root, "dev"), exist_ok=True)
        with open(os.path.join(root, "dev/null"), "wb"):
            pass
        initrd = make_initrd(directory, args.guests, names)
        kernel = os.path.join(args.guests, "cloud/vmlinuz")
        doppel = os.path.join(args.build, "doppel")
        tcg = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max"]
        contenders = [bench.Guest(engine, tcg if engine == "tcg" else [doppel, "run", "-accel", engine])
                      for engine in args.engines.split(",")]
        rounds = []
        for number in range(args.runs):
            results = {"native": run_native(root, names)}
            for guest in contenders:
                results[guest.name] = guest.run(kernel, initrd, names, memory="2G")
            rounds.append(results)
            print(f"bench: round {number + 1} of {args.runs} done", file=sys.stderr)
    bench.print_table(rounds, list(rounds[0]), names)
    return 0 if bench.check_sums(rounds, [n for n in names if n != "gzip"]) else 1


if __name__ == "__main__":
    sys.exit(main())
