#!/usr/bin/env python3
"""A Linux guest mounts a directory of the host (-virtfs) and works in it.

usage: tests/boot/share.py ENGINE GUEST [--doppel PATH] [--guests DIR]

Both security models, and a read-only share. Skipped (77) when the guest is not there.
"""
import hashlib
import os
import stat
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import guests  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
TIMEOUT = 450


def expect(good, what):
    if not good:
        raise AssertionError(what)


def run(args, directory, options):
    """The guest's words, by their first, and the shared directory."""
    shared = os.path.join(directory, "shared")
    os.mkdir(shared)
    with open(os.path.join(shared, "greeting"), "w", encoding="ascii") as file:
        file.write("hello\n")
    os.symlink(os.path.join(directory, "secret"), os.path.join(shared, "escape"))
    with open(os.path.join(directory, "secret"), "w", encoding="ascii") as file:
        file.write("SECRET\n")
    with open(os.path.join(HERE, "share.sh"), "rb") as file:
        script = file.read()
    kernel, base = guests.kernel_and_initrd(args, args.guest)
    initrd = guests.make_initrd(base, os.path.join(directory, "initrd"), {"script": (script, True)})
    words = guests.command(args.engine, args.doppel, kernel, initrd, "console=ttyS0 quiet",
                           "256M", 1, ["-virtfs", "local,path=%s,mount_tag=host,%s" % (shared, options)])
    done = guests.boot(words, TIMEOUT)
    expect(done.status == 0, "status %s\n%s%s" % (done.status, done.output, done.errors))
    expect("SECRET" not in done.output, "a link led out of the directory")
    said = dict(line.partition(" ")[::2] for line in done.output.splitlines() if " " in line)
    return said, shared, done.output


def check(said, expected, output):
    for name, value in expected.items():
        expect(said.get(name) == value, "%s: '%s', not '%s'\n%s" % (name, said.get(name), value, output))


COMMON = {"mounted": "yes", "read": "hello", "content": "new new new", "truncated": "5", "touched": "978307200",
          "listed": "500", "gone": "0", "space": "2", "unmounted": "yes",
          "attributes": "640 4 2 symbolic link"}


def plain(args, directory):
    said, shared, output = run(args, directory, "security_model=none")
    check(said, COMMON, output)
    expect("device" not in said, "the guest made a device of the host")
    with open(os.path.join(shared, "big"), "rb") as file:
        expect(said["sum"].split()[0] == hashlib.md5(file.read()).hexdigest(), "big differs")
    expect(os.readlink(os.path.join(shared, "d", "l")) == "c", "the link")
    expect(stat.S_IMODE(os.stat(os.path.join(shared, "d", "c")).st_mode) == 0o640, "the mode")
    expect(stat.S_ISFIFO(os.stat(os.path.join(shared, "pipe")).st_mode), "the pipe")


def mapped(args, directory):
    try:
        os.setxattr(directory, "user.test", b"1")
    except OSError:
        print("# no extended attributes in %s" % directory)
        return
    said, shared, output = run(args, directory, "security_model=mapped-xattr")
    check(said, dict(COMMON, owner="1234 5678", device="character special file 1 3"), output)
    expect(os.path.isfile(os.path.join(shared, "device")), "the device is no file here")
    expect(os.stat(os.path.join(shared, "d", "h")).st_uid == os.getuid(), "the owner leaked")
    expect(stat.S_IMODE(os.stat(os.path.join(shared, "d", "c")).st_mode) == 0o600, "the mode leaked")


def read_only(args, directory):
    said, shared, output = run(args, directory, "security_model=none,readonly=on")
    check(said, {"mounted": "yes", "read": "hello"}, output)
    expect("Read-only file system" in output, output)
    expect(sorted(os.listdir(shared)) == ["escape", "greeting"], "something was written")


def main():
    parser = guests.parser(__doc__)
    parser.add_argument("guest")
    args = parser.parse_args()
    for test in (plain, mapped, read_only):
        # Not in a tmpfs, which may lack extended attributes.
        with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
            test(args, directory)
            print("ok - " + test.__name__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
