#!/usr/bin/env python3
"""Runs the test suite and ends with one line: N passed, N failed, N skipped.

usage: tools/check.py [--long] [--sanitized SANITIZED_DIR] BUILD_DIR [NAME...]

Tests are Meson's; those of the suite `long` run only with --long. --sanitized adds what is worth its
time in a build with sanitizers. A test program that reports its cases (TAP lines, cmocka or unittest
summaries) counts each case, any other counts as one. The status is 0 only when nothing failed.
"""
import argparse
import json
import os
import re
import subprocess
import sys

# What test programs print about their cases: (pattern, passed, failed, skipped) group numbers.
TAP = re.compile(r"^(not ok|ok)\b[^#\n]*(#\s*skip)?", re.IGNORECASE | re.MULTILINE)
CMOCKA_PASSED = re.compile(r"^\[  PASSED  \] (\d+) test", re.MULTILINE)
CMOCKA_FAILED = re.compile(r"^\[  FAILED  \] \S+: (\d+) test|^ (\d+) FAILED TEST", re.MULTILINE)
CMOCKA_SKIPPED = re.compile(r"^\[  SKIPPED \] \S+: (\d+) test", re.MULTILINE)
UNITTEST = re.compile(r"^Ran (\d+) tests? in .*?^(?:OK|FAILED)(?: \((.*)\))?", re.MULTILINE | re.DOTALL)


def count_cases(text):
    """(passed, failed, skipped) as the program told, or None when it told nothing."""
    found = UNITTEST.search(text)
    if found:
        notes = dict(re.findall(r"(\w+)=(\d+)", found.group(2) or ""))
        failed = int(notes.get("failures", 0)) + int(notes.get("errors", 0))
        skipped = int(notes.get("skipped", 0))
        return int(found.group(1)) - failed - skipped, failed, skipped
    if CMOCKA_PASSED.search(text):
        passed = sum(int(n) for n in CMOCKA_PASSED.findall(text))
        failed = sum(int(b) for _, b in CMOCKA_FAILED.findall(text) if b)
        skipped = sum(int(n) for n in CMOCKA_SKIPPED.findall(text))
        return passed - skipped if passed >= skipped else passed, failed, skipped
    lines = TAP.findall(text)
    if lines:
        skipped = sum(1 for verdict, skip in lines if verdict == "ok" and skip)
        passed = sum(1 for verdict, _ in lines if verdict.lower() == "ok") - skipped
        return passed, sum(1 for verdict, _ in lines if verdict.lower() != "ok"), skipped
    return None


def count_test(test):
    """One Meson test's share of the sum; its own verdict has the last word."""
    result = test["result"]
    if result == "SKIP":
        return 0, 0, 1
    good = result in ("OK", "EXPECTEDFAIL")
    passed, failed, skipped = count_cases(test.get("stdout", "")) or (int(good), 0, 0)
    if not good and failed == 0:
        failed = 1
    return passed, failed, skipped


# What a sanitizer sees most of: the parsers, the semantics, the devices, the engines on bare
# kernels, the fuzzers; and what carries the word: one boot.
REDUCED = ("x86", "memory", "device", "virtio", "block", "net", "engine", "machine", "bare", "fuzz",
           "reduced")


def run(build, choice, names):
    """Runs tests of one build: [passed, failed, skipped]."""
    log = os.path.join(build, "meson-logs", "testlog.json")
    if os.path.exists(log):
        os.remove(log)
    command = ["meson", "test", "-C", build, "--no-rebuild", "--print-errorlogs",
               # A busy machine is slow, not wrong.
               "--timeout-multiplier", "4",
               # Some wait for clocks, disks and each other: one more than there are processors.
               "--num-processes", str(len(os.sched_getaffinity(0)) + 1)]
    status = subprocess.run(command + choice + names, check=False).returncode
    totals = [0, 0, 0]
    try:
        with open(log, encoding="utf-8") as file:
            for line in file:
                totals = [a + b for a, b in zip(totals, count_test(json.loads(line)))]
    except OSError:
        totals[1] += 1
    if status != 0 and totals[1] == 0:
        totals[1] = 1
    return totals


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].removeprefix("usage: "))
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--sanitized")
    parser.add_argument("build")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    reduced = [word for suite in REDUCED for word in ("--suite", suite)]
    short = ["--no-suite", "long"]
    choice = [] if args.long else short
    totals = run(args.build, choice, args.names)
    if args.sanitized:
        totals = [a + b for a, b in zip(totals, run(args.sanitized, reduced + short, args.names))]
    print("%d passed, %d failed, %d skipped" % tuple(totals))
    return 1 if totals[1] else 0


if __name__ == "__main__":
    sys.exit(main())
