"""Starting Linux guests in tests and measurements: what they need, command lines, RAM disks."""
import argparse
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import threading
import time


ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SKIPPED = 77  # the exit status that Meson takes for a skipped test


def skip(why):
    print("SKIP: " + why)
    raise SystemExit(SKIPPED)


def need(*names):
    """Goes on only where every program (a bare name) and every file (a path) is there."""
    missing = [name for name in names
               if not (os.path.exists(name) if os.sep in name else shutil.which(name))]
    if missing:
        skip("there is no %s (guests: `make guests others disk userland`)" % ", ".join(missing))


def parser(usage, engine="engine"):
    """The arguments that the tests share: ENGINE [--doppel PATH] [--guests DIR]."""
    found = argparse.ArgumentParser(description=usage)
    if engine:
        found.add_argument(engine)
    found.add_argument("--doppel", default="build/doppel")
    found.add_argument("--guests", default="build/guest")
    return found


def kernel_and_initrd(args, guest):
    """The paths of a guest's two files; skips the test without them."""
    paths = [os.path.join(args.guests, guest, name) for name in ("vmlinuz", "initrd")]
    need(*paths)
    return paths


def build_workloads(directory, compiler="gcc"):
    """The path of bench/guest/workloads.c as a static program, with SQLite when its library is there; None
    when none can be built."""
    path = os.path.join(directory, "workloads")
    base = [compiler, "-O2", "-static", "-pthread", "-o", path, os.path.join(ROOT, "bench/guest/workloads.c")]
    for words in (["-DWITH_SQLITE", "-lsqlite3", "-lm"], ["-lm"]):
        if subprocess.run(base + words, stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return path
    return None


def cpio_entry(name, data, mode, inode):
    """One newc record (cpio(5)): header in hexadecimal, name and data padded to four bytes."""
    name = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
    record = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    record += b"\0" * (-len(record) % 4)
    return record + data + b"\0" * (-len(data) % 4)


def archive(files):
    """A cpio archive of {path: (data, executable)} and the folders above: the kernel unpacks it over
    the one before."""
    folders = {str(folder) for path in files for folder in pathlib.PurePosixPath(path).parents}
    entries = [(folder, b"", 0o40755) for folder in sorted(folders - {"."})]
    entries += [(path, data, 0o100755 if executable else 0o100644)
                for path, (data, executable) in files.items()]
    parts = [cpio_entry(*entry, inode + 1) for inode, entry in enumerate(entries)]
    return b"".join(parts) + cpio_entry("TRAILER!!!", b"", 0, 0)


def make_initrd(base, path, files, before=b""):
    """Copies the guest's RAM disk to `path` with files added, as `archive` takes them, behind the
    cpio records `before`."""
    shutil.copyfile(base, path)
    with open(path, "ab") as file:
        file.write(b"\0" * (-os.path.getsize(path) % 4) + before + archive(files))
    return path


# A guest on a busy host may get no processor for half a minute, which its kernel takes for its own
# fault: it complains of what takes longer than minutes.
PATIENCE = "watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=300"


def command(engine, doppel, kernel, initrd, append, memory="512M", cpus=1, extra=()):
    """The command line that boots a guest on an engine of Doppel, or on `qemu` (TCG)."""
    words = ["-kernel", kernel, "-m", memory, "-smp", str(cpus), "-nographic", "-no-reboot",
             "-append", append + " " + PATIENCE]
    if initrd:
        words += ["-initrd", initrd]
    words += list(extra)
    if engine == "qemu":
        return ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-nic", "none", "-vga",
                "none"] + words
    return [doppel, "run", "-accel", engine] + words


ESCAPE = re.compile(r"\x1b\[[0-9;?]*[@-~]")


def plain(text):
    """A console's text without carriage returns and terminal sequences: SeaBIOS moves the cursor in the
    middle of a word when a timer tick comes there."""
    return ESCAPE.sub("", text.replace("\r", ""))


class Result:
    """What a guest did: exit status (None: timed out), console output, stderr, seconds."""

    def __init__(self, status, output, errors, seconds):
        self.status = status
        self.output = output
        self.errors = errors
        self.seconds = seconds


def boot(words, timeout, stdin=subprocess.DEVNULL):
    start = time.monotonic()
    with subprocess.Popen(words, stdin=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
            status = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
            status = None
    return Result(status, plain(output.decode(errors="replace")),
                  errors.decode(errors="replace"), time.monotonic() - start)


def judge(result, what, missing, complaints):
    """The exit status of a test whose guest did all of `what`: but for what is missing, and with no
    match of `complaints` in what it printed."""
    complaint = complaints.search(result.output)
    if result.status == 0 and not missing and not complaint:
        print("%s passed in %.0f s" % (what, result.seconds))
        return 0
    print(result.output + result.errors)
    print("exit status %s; failed: %s; kernel complaint: %s" %
          (result.status, missing, complaint and complaint.group(0)))
    return 1


@contextlib.contextmanager
def started(words, line, timeout):
    """A guest that has printed `line`, for a while: its process; None where it never did."""
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as process:
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            found = any(printed.strip() == line for printed in process.stdout)
            timer.cancel()
            yield process if found else None
        finally:
            timer.cancel()
            process.kill()
