#!/usr/bin/env python3
"""Runs the kernel's own selftests of x86 in a guest: entries, signals, segments, I/O, debugging.

usage: tests/boot/selftests.py ENGINE [--cpus N] [--doppel PATH] [--guests DIR]

They are built from Debian's package linux-source-6.1, those for 32 bits too where gcc can. Each
must end with status 0; the kernel's log must hold no complaint. Skipped (77) without the package.
"""
import glob
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import guests  # noqa: E402

FOLDER = "tools/testing/selftests/x86"
PARTS = ["tools/testing/selftests/*.h", "tools/testing/selftests/lib.mk", "tools/scripts/*",
         FOLDER + "/*", "arch/x86/include/asm/desc_defs.h"]
# AMX is no part of the guest's processor.
LEFT_OUT = {"amx_64"}
ENOUGH = 18  # programs, from a gcc for 64 bits alone
COMPLAINT = re.compile(r"BUG|Oops|lockup|detected.*stall|WARNING: CPU")


def build(directory):
    """{name: program}, all linked statically."""
    archives = sorted(glob.glob("/usr/src/linux-source-6.*.tar.xz"))
    if not archives:
        guests.skip("there is no /usr/src/linux-source-6.*.tar.xz (package linux-source-6.1)")
    subprocess.run(["tar", "-xf", archives[0], "-C", directory, "--strip-components=1",
                    "--wildcards"] + ["*/" + part for part in PARTS], check=True)
    folder = os.path.join(directory, FOLDER)
    # KHDR_INCLUDES ends the Makefile's CFLAGS. What cannot be built is missed below.
    subprocess.run(["make", "-s", "-k", "-C", folder, "KHDR_INCLUDES=-static -w"],
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    found = {}
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if re.search("_(32|64)$", name) and os.access(path, os.X_OK) and name not in LEFT_OUT:
            with open(path, "rb") as file:
                found[name] = file.read()
    if len(found) < ENOUGH:
        raise SystemExit("only %d programs could be built: %s" % (len(found), sorted(found)))
    return found


def script(names):
    lines = ["cd /tmp"]
    for name in names:
        lines.append("timeout 120 /selftest_%s >/tmp/log 2>&1 && echo selftest %s ok || "
                     "{ echo selftest %s failed; cat /tmp/log; }" % (name, name, name))
    return "\n".join(lines + ["dmesg", ""]).encode()


def main():
    parser = guests.parser(__doc__)
    parser.add_argument("--cpus", type=int, default=2)
    args = parser.parse_args()
    kernel, base = guests.kernel_and_initrd(args, "cloud")
    guests.need("make", "gcc")
    with tempfile.TemporaryDirectory() as directory:
        programs = build(directory)
        files = {"selftest_" + name: (data, True) for name, data in programs.items()}
        files["script"] = (script(programs), False)
        initrd = guests.make_initrd(base, os.path.join(directory, "initrd"), files)
        words = guests.command(args.engine, args.doppel, kernel, initrd, "console=ttyS0 quiet",
                               cpus=args.cpus)
        result = guests.boot(words, 900)
    missing = [name for name in programs if "selftest %s ok\n" % name not in result.output]
    return guests.judge(result, "%d programs" % len(programs), missing, COMPLAINT)


if __name__ == "__main__":
    sys.exit(main())
