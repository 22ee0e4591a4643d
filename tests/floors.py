#!/usr/bin/env python3
"""Checks who includes whom: each folder of src/ stands on a floor and includes only from below.

usage: tests/floors.py SOURCE_ROOT
"""
import os
import re
import sys

# What a folder may include besides itself and libc. Folders on one floor do not know each other,
# and host/ and memory's neighbours see platform/ as headers only (ARCHITECTURE.md, the floors).
BASE = {"base"}
X86 = BASE | {"x86"}
MEMORY = X86 | {"memory"}
PLATFORM = MEMORY | {"platform"}
HOST = PLATFORM | {"host"}
MACHINE = HOST | {"engine", "device", "boot", "machine"}
ALLOWED = {
    "base": BASE,
    "x86": X86,
    "memory": MEMORY,
    "audit": X86 | {"audit"},
    "platform": PLATFORM,
    "host": HOST,
    "engine": HOST | {"engine"},
    "device": HOST | {"device"},
    "boot": HOST | {"boot"},
    "machine": MACHINE,
    "state": MACHINE | {"state"},
    "pool": MACHINE | {"pool"},
    "control": MACHINE | {"state", "pool", "control"},
    "cli": MACHINE | {"state", "pool", "control", "cli"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.MULTILINE)
# Lines may carry file-scope state only here (law 7).
MUTABLE_ALLOWED = {"cli/main.c", "host/trap.c"}
MUTABLE = re.compile(
    r"^(?:static\s+)?(?!static|const|extern|typedef|return|struct\s+\w+\s*\{|enum|union|_Static_assert"
    r"|__attribute__|#)(?:(?:unsigned|volatile|struct|_Atomic|__thread|_Thread_local)\s+)*"
    r"[A-Za-z_]\w*\s+\**\w+(?:\[[^\]]*\])*(?:\s*;|\s*=[^=].*)$", re.MULTILINE)
MAX_LINES = 1000


def source_files(root):
    for directory, _, names in os.walk(os.path.join(root, "src")):
        for name in sorted(names):
            if name.endswith((".c", ".h", ".def")):
                yield os.path.join(directory, name)


def check_includes(path, folder, text):
    for mark, target in INCLUDE.findall(text):
        if mark == "<":
            continue
        top = target.split("/")[0]
        if "/" not in target:
            yield '%s: include "%s" from src/, as "folder/file.h"' % (path, target)
        elif top not in ALLOWED:
            yield "%s: include of unknown folder '%s'" % (path, top)
        elif top not in ALLOWED[folder]:
            yield "%s: %s/ may not include %s/ (%s)" % (path, folder, top, target)


def check_file(root, full):
    path = os.path.relpath(full, os.path.join(root, "src"))
    folder = path.split(os.sep)[0]
    with open(full, encoding="utf-8") as file:
        text = file.read()
    if folder not in ALLOWED:
        yield "%s: folder '%s' is on no floor" % (path, folder)
        return
    yield from check_includes(path, folder, text)
    if text.count("\n") > MAX_LINES:
        yield "%s: %d lines; a file is one noun and stays below %d" % (
            path, text.count("\n"), MAX_LINES)
    if not text.lstrip().startswith("/*"):
        yield "%s: does not open with a comment that says what it is" % path
    if path.endswith(".c") and path not in MUTABLE_ALLOWED:
        for line in MUTABLE.findall(text):
            yield "%s: mutable file-scope state: %s" % (path, line)


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else "."
    files = list(source_files(root))
    complaints = [line for full in files for line in check_file(root, full)]
    for line in complaints:
        print(line)
    print("%d files, %d complaints" % (len(files), len(complaints)))
    return 1 if complaints or not files else 0


if __name__ == "__main__":
    sys.exit(main())
