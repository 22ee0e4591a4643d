#!/usr/bin/env python3
"""Checks that clang has nothing to say about any C file of a build, with the flags gcc compiles it with.

usage: tests/clang.py BUILD_DIR

Only the front end runs (-fsyntax-only): the warnings come from there, and it takes a fifth of the time.
"""
import concurrent.futures
import json
import os
import shlex
import subprocess
import sys

# Switches by which gcc names what clang does unasked or does not know.
UNKNOWN = ["-Wno-unknown-warning-option", "-Wno-ignored-optimization-argument"]


def flags_of(command):
    """The compiler's arguments without those that say what to write where."""
    words = shlex.split(command)[1:]
    while words and not words[0].startswith("-"):
        words = words[1:]  # the compiler behind ccache
    kept = []
    skip = False
    for word in words:
        if not skip and word not in ("-o", "-MF", "-MQ", "-MD", "-c"):
            kept.append(word)
        skip = word in ("-o", "-MF", "-MQ")
    return kept


def check(entry):
    command = ["clang", "-fsyntax-only"] + flags_of(entry["command"]) + UNKNOWN
    return subprocess.run(command, cwd=entry["directory"], capture_output=True, text=True, check=False)


def main():
    build = sys.argv[1]
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        entries = [entry for entry in json.load(file) if entry["file"].endswith(".c")]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        bad = [result for result in pool.map(check, entries) if result.returncode != 0 or result.stderr]
    for result in bad:
        print(result.stderr, end="")
    print("%d files, %d with complaints" % (len(entries), len(bad)))
    return 1 if bad or not entries else 0


if __name__ == "__main__":
    sys.exit(main())
