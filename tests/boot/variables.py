#!/usr/bin/env python3
"""OVMF keeps a variable in flash: set in one run of the machine, found in the next, still there after
a reset, deleted, and gone.

usage: tests/boot/variables.py ENGINE split|whole [--doppel PATH] [--guests DIR] [--timeout S]

`split`: code in flash 0, read-only, variables in flash 1; `whole`: both in a writable flash 0. Skipped
(77) when OVMF is not there.
"""
import argparse
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import machine  # noqa: E402

SKIPPED = 77
VARIABLES = 128 << 10  # at the beginning of Debian's image of 2 MiB
GUID = "11111111-2222-3333-4444-555555555555"
FOUND = r"Variable .*NV.*foo.* DataSize = 0x02\s+00000000: 34 12"
MISSING = r"(?i)no matching variables"


class Failure(Exception):
    pass


def shell(guest, timeout, after=0):
    """To the shell's prompt; the console's position there."""
    for pattern, keys in (("Press .*ESC", "\x1b"), ("Shell> ", "")):
        if guest.wait_for(pattern, timeout, after=after) is None:
            raise Failure("no '%s'" % pattern)
        after = guest.mark()
        for key in keys:
            guest.type(key)
    return after


def command(guest, line, pattern, timeout):
    after = guest.mark()
    for letter in line + "\r":
        guest.type(letter)
    if pattern and guest.wait_for(pattern, timeout, after=after) is None:
        raise Failure("'%s' shows no '%s'" % (line, pattern))


def power_off(guest, timeout):
    command(guest, "reset -s", None, timeout)
    if guest.wait(timeout) != 0:
        raise Failure("no end")


def run(args, words, use):
    with machine.Machine(args.engine, args.doppel, words, vga=True) as guest:
        try:
            shell(guest, args.timeout)
            use(guest)
            power_off(guest, args.timeout)
        except Failure as failure:
            guest.kill()
            print(guest.last_words(3000))
            print("not ok - " + str(failure))
            sys.exit(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine")
    parser.add_argument("layout", choices=("split", "whole"))
    parser.add_argument("--doppel", default="build/doppel")
    parser.add_argument("--guests", default="build/guest")
    parser.add_argument("--timeout", type=float, default=120)
    args = parser.parse_args()
    source = os.path.join(args.guests, "ovmf", "OVMF.fd")
    if not os.path.exists(source):
        print("SKIP: no %s; `make others` gets it" % source)
        return SKIPPED

    def set_it(guest):
        command(guest, "dmpstore -all foo", MISSING, args.timeout)
        command(guest, "setvar foo -guid %s -bs -rt -nv =0x1234" % GUID, "Shell> ", args.timeout)
        command(guest, "dmpstore -all foo", FOUND, args.timeout)

    def find_and_delete_it(guest):
        command(guest, "dmpstore -all foo", FOUND, args.timeout)
        after = guest.mark()
        command(guest, "reset -w", None, args.timeout)
        shell(guest, args.timeout, after)
        command(guest, "dmpstore -all foo", FOUND, args.timeout)
        command(guest, "setvar foo -guid %s =" % GUID, "Shell> ", args.timeout)

    def miss_it(guest):
        command(guest, "dmpstore -all foo", MISSING, args.timeout)

    with tempfile.TemporaryDirectory() as directory:
        code, variables = (os.path.join(directory, name) for name in ("code", "variables"))
        flash = ["-drive", "if=pflash,format=raw,unit=0,file=" + code]
        shutil.copy(source, code)
        if args.layout == "split":
            with open(source, "rb") as whole, open(code, "wb") as rest, open(variables, "wb") as head:
                head.write(whole.read(VARIABLES))
                rest.write(whole.read())
            flash[1] += ",readonly=on"
            flash += ["-drive", "if=pflash,format=raw,unit=1,file=" + variables]
        with open(code, "rb") as file:
            before = file.read()[VARIABLES if args.layout == "whole" else 0:]
        words = ["-m", "256M", "-vga", "none", "-nic", "none"] + flash
        for use in (set_it, find_and_delete_it, miss_it):
            run(args, words, use)
        with open(code, "rb") as file:
            if file.read()[-len(before):] != before:
                print("not ok - the code in the flash has changed")
                return 1
    print("ok - OVMF's variables, %s flash, engine %s" % (args.layout, args.engine))
    return 0


if __name__ == "__main__":
    sys.exit(main())
