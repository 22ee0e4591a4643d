#!/usr/bin/env python3
"""Programs in a Linux guest: those of programs.c, and Debian's python3, gdb, luajit, openssl, gcc.

usage: tests/boot/programs.py ENGINE [--cpus N] [--only own|debian] [--doppel PATH] [--guests DIR]
                              [--exchange PATH]

The guest lives in RAM: its RAM disk gets the programs, and the userland of tools/userland.sh in /deb.
What they print is compared with what the same programs print on the host, or with what must come
out. Skipped (77) when the guest or the userland is not there.
"""
import os
import re
import subprocess
import sys
import tarfile
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import guests  # noqa: E402

OWN = ["ldt", "resident", "many", "signals", "threads", "jit"]
DEBUGGED = """
#include <stdio.h>
int total;
int add(int n) { total += n; return total; }
int main(void) { for (int i = 1; i <= 10; i++) add(i); printf("total %d\\n", total); return 0; }
"""
# Name, shell words, what must be in their output.
DEBIAN = [
    ("python", "python3 -c 'import hashlib, re, json; s = 0\n"
     "for i in range(3000000): s = (s * 31 + i) % 1000003\n"
     "print(\"python\", s, hashlib.sha256(b\"x\" * 1000000).hexdigest()[:16],"
     " len(re.findall(\"a+b\", \"aab\" * 100000)), json.dumps({\"a\": [1, 2.5]}))'", None),
    ("luajit", "$(echo /usr/bin/luajit*) -e 'local s = 0; for i = 1, 100000000 do s = (s + i * 7) % 1000003"
     " end; print(\"luajit\", s)'", "luajit\t%d" % (7 * 100000000 * 100000001 // 2 % 1000003)),
    ("openssl", "openssl enc -aes-256-cbc -pbkdf2 -k key -in /big -out /big.aes && "
     "openssl enc -d -aes-256-cbc -pbkdf2 -k key -in /big.aes >/big.again && "
     "[ \"$(sha256sum </big)\" = \"$(sha256sum </big.again)\" ] && openssl genrsa 2048 2>/dev/null |"
     " openssl rsa -check -noout", "RSA key ok"),
    ("gzip", "[ \"$(gzip -c /big | gzip -dc | sha256sum)\" = \"$(sha256sum </big)\" ] && echo gzip ok",
     "gzip ok"),
    ("gcc", "gcc -g -O1 -o /debugged /debugged.c && /debugged", "total 55"),
    ("gdb", "gdb -batch -nx -ex 'break add if n == 7' -ex run -ex 'print total' -ex 'watch total' -ex c"
     " -ex 'print total' -ex 'delete' -ex 'stepi' -ex c /debugged 2>&1", r"(?s)= 21\b.*= 28\b.*total 55"),
]


def deb_entries(path):
    """The userland's tar archive as cpio records below /deb."""
    records, number = [guests.cpio_entry("deb", b"", 0o40755, 1 << 20)], 1 << 20
    with tarfile.open(path) as tar:
        for member in tar:
            number += 1
            name = "deb/" + member.name.removeprefix("./")
            if member.isdir() and name != "deb/":
                records.append(guests.cpio_entry(name.rstrip("/"), b"", 0o40755, number))
            elif member.issym():
                records.append(guests.cpio_entry(name, member.linkname.encode(), 0o120777, number))
            elif member.isfile() or member.islnk():
                data = tar.extractfile(member).read()
                records.append(guests.cpio_entry(name, data, 0o100755, number))
    return b"".join(records)


def native(words):
    return subprocess.run(words, shell=True, capture_output=True, text=True, check=False).stdout.strip()


def run(args, directory, kind):
    """Boots the guest with its script; returns what it printed."""
    files = {}
    lines = []
    if kind == "own":
        with open(os.path.join(directory, "programs"), "rb") as file:
            files["programs"] = (file.read(), True)
        lines = [f"/programs {name}" for name in OWN]
    else:
        files["deb/debugged.c"] = (DEBUGGED.encode(), False)
        lines = ["export PATH=/usr/sbin:/usr/bin:/sbin:/bin", "mount -t proc proc /deb/proc",
                 "mount -t devtmpfs dev /deb/dev",
                 "head -c 20000000 /deb/usr/bin/gdb > /deb/big", "cat /deb/big /deb/big > /deb/big2",
                 "mv /deb/big2 /deb/big"]
        for name, words, _ in DEBIAN:
            files[f"deb/run-{name}"] = (words.encode() + b"\n", True)
            lines += [f"echo begin {name}", f"chroot /deb /bin/sh /run-{name}", f"echo end {name}"]
    files["script"] = ("\n".join(lines) + "\n").encode(), True
    userland = deb_entries(os.path.join(args.guests, "userland.tar")) if kind == "debian" else b""
    kernel, base = guests.kernel_and_initrd(args, "cloud")
    initrd = guests.make_initrd(base, os.path.join(directory, "initrd-" + kind), files, userland)
    append = "console=ttyS0 quiet panic=-1"
    if args.exchange:
        words = [args.exchange, kernel, initrd, append + " " + guests.PATIENCE, "2048", str(args.cpus), args.engine]
    else:
        words = guests.command(args.engine, args.doppel, kernel, initrd, append, memory="2G",
                               cpus=args.cpus)
    result = guests.boot(words, args.timeout)
    if result.status != 0:
        sys.exit(f"status {result.status}\n{result.output[-3000:]}\n{result.errors[-500:]}")
    return result.output


def check_own(args, directory):
    program = os.path.join(directory, "programs")
    subprocess.run(["gcc", "-O2", "-static", "-o", program, os.path.join(HERE, "programs.c"), "-lpthread"],
                   check=True)
    output = run(args, directory, "own").split("\n")
    return [f"{name}: not '{want}'" for name in OWN
            if (want := native(f"{program} {name}")) not in output]


def check_debian(args, directory):
    output = run(args, directory, "debian")
    failed = []
    for name, words, pattern in DEBIAN:
        found = re.search(rf"begin {name}\n(.*?)end {name}\n", output, re.DOTALL)
        text = found[1] if found else ""
        good = re.search(pattern, text) if pattern else native(words) == text.strip()
        if not good:
            failed.append(f"{name}: {text[-1000:]!r}")
    return failed


def main():
    parser = guests.parser(__doc__)
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--only", choices=["own", "debian"])
    parser.add_argument("--exchange", help="tests/boot/exchange.c; ENGINE is its seed then")
    parser.add_argument("--timeout", type=int, default=900)
    args = parser.parse_args()
    guests.kernel_and_initrd(args, "cloud")
    failed = []
    with tempfile.TemporaryDirectory(prefix="doppel-programs.") as directory:
        if args.only != "debian":
            failed += check_own(args, directory)
        if args.only != "own":
            guests.need(os.path.join(args.guests, "userland.tar"))
            failed += check_debian(args, directory)
    print("\n".join(failed) or f"ok - programs on {args.engine}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
