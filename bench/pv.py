#!/usr/bin/env python3
"""What each of KVM's paravirtual features gains, with 2 virtual processors: time without it / time with it.

usage: bench/pv.py [--engine bt] [--runs N] [--one-core] [--build DIR] [--guests DIR]

--one-core gives both processors one core of the host, as an overcommitted host does. Each round boots
the guest once as it is and once without each feature; a ratio is the median of the rounds' ratios.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "boot"))
import guests  # noqa: E402

FEATURES = ["kvm-pv-ipi", "kvm-pv-tlb-flush", "kvm-pv-eoi", "kvm-pv-unhalt", "kvm-steal-time", "kvmclock"]
SCRIPT = b"dmesg -n 1\n/pv\n"
TIMEOUT = 120


def measure(args, initrd, model, cores):
    kernel = os.path.join(args.guests, "cloud", "vmlinuz")
    doppel = os.path.join(args.build, "doppel")
    words = guests.command(args.engine, doppel, kernel, initrd, "console=ttyS0 quiet", "256M", 2, ["-cpu", model])
    done = guests.boot(cores + words, TIMEOUT)
    found = {}
    for line in done.output.splitlines():
        parts = line.split()
        if len(parts) == 2 and parts[1].isdigit():
            found[parts[0]] = int(parts[1])
    if len(found) < 4:
        sys.exit("bench/pv.py: the guest with -cpu %s gave no figures:\n%s" % (model, done.output[-500:]))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="bt")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--one-core", action="store_true")
    parser.add_argument("--build", default="build")
    parser.add_argument("--guests", default="build/guest")
    args = parser.parse_args()
    cores = ["taskset", "-c", "0"] if args.one_core else []
    with tempfile.TemporaryDirectory() as directory:
        program = os.path.join(directory, "pv")
        subprocess.run(["gcc", "-O2", "-D_GNU_SOURCE", "-static", "-pthread", "-o", program,
                        os.path.join(HERE, "guest", "pv.c")], check=True)
        with open(program, "rb") as file:
            binary = file.read()
        initrd = guests.make_initrd(os.path.join(args.guests, "cloud", "initrd"), os.path.join(directory, "initrd"),
                                    {"script": (SCRIPT, True), "pv": (binary, True)})
        rounds = []
        for _ in range(args.runs):
            with_all = measure(args, initrd, "max", cores)
            rounds.append((with_all, {feature: measure(args, initrd, "max,-" + feature, cores)
                                      for feature in FEATURES}))
    names = list(rounds[0][0])
    print("%-18s %s" % ("time without/with", " ".join("%17s" % name for name in names)))
    print("%-18s %s" % ("with all, us", " ".join(
        "%17.1f" % (statistics.median(with_all[name] for with_all, _ in rounds) / 1000) for name in names)))
    for feature in FEATURES:
        row = [statistics.median(without[feature][name] / with_all[name] for with_all, without in rounds)
               for name in names]
        print("%-18s %s" % (feature, " ".join("%17.2f" % value for value in row)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
