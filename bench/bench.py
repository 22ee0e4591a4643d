#!/usr/bin/env python3
"""The measurements, as tables: native, each engine and QEMU TCG side by side in one run.

usage: bench/bench.py [--engines direct,bt,sim] [--runs N] [--only NAME,...] [--quick] [--build DIR]
                      [--guests DIR]

Machines drift, so nothing is compared across runs: each round runs every contender once, in
turn, and a ratio is the median of the rounds' ratios. The workloads (bench/guest/workloads.c) are one
static program for the host and the guest; its checksums must agree.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tests/boot"))
import guests  # noqa: E402

BOOT_MARK = b"BENCH-INIT"
END_MARK = b"BENCH-END"
# Workloads that the simulator, tens of times slower than native, is spared by default.
SIM_WORKLOADS = ["md5_rounds", "null_calls"]
# The compute kernels, whose ratios are summed up by a geometric mean.
KERNELS = ["interpreter", "quicksort", "hash_chains", "lz", "md5_rounds", "matrix_scalar",
           "matrix_vector", "sqlite"]
# Runs on one processor and on two: what the second one brings.
PARALLEL = "parallel_two"
# Two processors that wait for each other: against TCG's.
WAITING = ["pipe_apart", "map_contended"]
TIMEOUT = 900


def build_workloads(directory):
    """Compiles the workloads; returns (path, names)."""
    path = guests.build_workloads(directory)
    if not path:
        sys.exit("bench: gcc cannot build bench/guest/workloads.c statically (libc6-dev?)")
    names = subprocess.run([path, "-l"], capture_output=True, text=True, check=True).stdout
    return path, names.split()


def make_initrd(directory_of_guests, directory, workloads):
    """The default guest's RAM disk with the workloads and a script behind it."""
    script = (f"echo {BOOT_MARK.decode()}\n"
              "for word in $(cat /proc/cmdline); do\n"
              "  case $word in bench=*) names=${word#bench=} ;; times=*) times=${word#times=} ;; esac\n"
              "done\n"
              "[ -z \"$names\" ] || /bench/workloads -x ${times:-1} $(echo $names | tr , ' ')\n"
              f"echo {END_MARK.decode()}\n")
    with open(workloads, "rb") as file:
        files = {"bench/workloads": (file.read(), True), "script": (script.encode(), True)}
    return guests.make_initrd(os.path.join(directory_of_guests, "cloud/initrd"),
                              os.path.join(directory, "initrd"), files)


class Guest:
    """One way of running the guest: an engine of ours, or QEMU."""

    def __init__(self, name, words, times=1):
        self.name = name
        self.words = words
        self.times = times  # how much the compute kernels are lengthened

    def run(self, kernel, initrd, names, cpus=1, memory="1G"):
        """Boots, runs the workloads; returns {name: (seconds, checksum)} with 'boot' among them."""
        append = f"console=ttyS0 quiet panic=-1 times={self.times} bench={','.join(names)}"
        command = self.words + ["-kernel", kernel, "-initrd", initrd, "-append", append, "-m", memory,
                                "-smp", str(cpus), "-nographic", "-no-reboot"]
        start = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT)
        results, text = {}, b""
        try:
            while True:
                chunk = os.read(process.stdout.fileno(), 65536)
                text += chunk
                if BOOT_MARK in text and "boot" not in results:
                    results["boot"] = (time.monotonic() - start, "")
                if not chunk or END_MARK in text or time.monotonic() - start > TIMEOUT:
                    break
        finally:
            process.kill()
            process.wait()
        for match in re.finditer(rb"^(\w+) (\d+\.\d+) ([0-9a-f]{16})\r?$", text, re.MULTILINE):
            results[match[1].decode()] = (float(match[2]), match[3].decode())
        if "boot" not in results:
            sys.stderr.write(f"bench: {self.name} did not boot; its last words:\n")
            sys.stderr.write(text[-2000:].decode(errors="replace") + "\n")
        return results


def run_native(workloads, busybox, names, times):
    """The workloads on the bare machine."""
    command = [workloads, "-x", str(times)] + names
    output = subprocess.run(command, capture_output=True, text=True, check=True,
                            env=dict(os.environ, BUSYBOX=busybox)).stdout
    return {line.split()[0]: (float(line.split()[1]), line.split()[2])
            for line in output.splitlines()}


def ratios(rounds, name, other, workload):
    """The rounds' ratios name/other, for rounds that have both."""
    found = []
    for results in rounds:
        ours, theirs = results[name].get(workload), results.get(other, {}).get(workload)
        if ours and theirs:
            found.append(ours[0] / theirs[0])
    return found


def cell(values, pattern="{:.2f}"):
    return pattern.format(statistics.median(values)) if values else "-"


def print_table(rounds, contenders, names):
    head = ["workload"] + [f"{name} s" for name in contenders]
    ours = [name for name in contenders if name not in ("native", "tcg")]
    for name in ours:
        head += [f"{name}/native", f"{name}/tcg"]
    rows = [head]
    for workload in names:
        row = [workload]
        for name in contenders:
            row.append(cell([r[name][workload][0] for r in rounds if workload in r[name]], "{:.3f}"))
        for name in ours:
            row.append(cell(ratios(rounds, name, "native", workload)))
            row.append(cell(ratios(rounds, name, "tcg", workload)))
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for row in rows:
        print("  ".join(text.ljust(width) if i == 0 else text.rjust(width)
                        for i, (text, width) in enumerate(zip(row, widths))))


def print_geometric_means(rounds, contenders):
    """One line for each of ours: the compute kernels against native, summed up."""
    for name in contenders:
        medians = [statistics.median(found) for workload in KERNELS
                   if (found := ratios(rounds, name, "native", workload))]
        if medians and name not in ("native", "tcg"):
            print(f"{name}/native, geometric mean of {len(medians)} compute kernels: "
                  f"{statistics.geometric_mean(medians):.2f}")


def print_ways(rounds, workloads):
    """One program each way that Popek and Goldberg's readers know, as a table."""
    ways = [("interpretation by software (sim)", "sim"), ("full translation (bt)", "bt"),
            ("direct execution (direct)", "direct")]
    for workload in workloads:
        found = [(title, ratios(rounds, name, "native", workload)) for title, name in ways
                 if name in rounds[0]]
        if all(values for _, values in found) and len(found) == len(ways):
            print(f"{workload}, times its native time:")
            for title, values in found + [("native", [1.0])]:
                print(f"  {title:34}{cell(values):>8}")


def measure_parallel(contenders, kernel, initrd, runs):
    """The throughput of two processors against one's, a line for each guest."""
    for guest in contenders:
        gains = []
        for _ in range(runs):
            one, two = (guest.run(kernel, initrd, [PARALLEL], cpus).get(PARALLEL)
                        for cpus in (1, 2))
            if one and two:
                gains.append(one[0] / two[0])
        print(f"{guest.name}: {PARALLEL} with 2 processors: {cell(gains)} x the throughput of 1")


def measure_waiting(contenders, kernel, initrd, runs, names):
    """Seconds with two processors, and ratios to TCG's, which comes last."""
    rounds = [{guest.name: guest.run(kernel, initrd, names, 2) for guest in contenders}
              for _ in range(runs)]
    for name in names:
        for guest in contenders:
            seconds = [r[guest.name][name][0] for r in rounds if name in r[guest.name]]
            print(f"{guest.name}: {name} with 2 processors: {cell(seconds)} s, "
                  f"{cell(ratios(rounds, guest.name, 'tcg', name))} x TCG's time")


def measure(contenders, native, kernel, initrd, names, arguments):
    """The rounds, each {contender: {workload: (seconds, checksum)}}; Ctrl-C ends with those done."""
    rounds = []
    try:
        for number in range(arguments.runs):
            results = {"native": native()}
            for guest in contenders:
                spared = guest.name == "sim" and not arguments.only
                mine = [n for n in names if n in SIM_WORKLOADS] if spared else names
                # Once is enough for what takes a minute and is told by its order of magnitude.
                results[guest.name] = {} if spared and number else guest.run(kernel, initrd, mine)
            rounds.append(results)
            print(f"bench: round {number + 1} of {arguments.runs} done", file=sys.stderr)
    except KeyboardInterrupt:
        if not rounds:
            sys.exit("bench: interrupted before its first round was done")
    return rounds


def check_sums(rounds, names):
    """Every contender must have computed the same."""
    for workload in names:
        sums = {result[workload][1] for r in rounds for result in r.values() if workload in result}
        if len(sums) > 1:
            print(f"bench: {workload}: the contenders' checksums differ: {sorted(sums)}")
            return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", default="direct,bt,sim",
                        help="engines of doppel (default: direct,bt,sim)")
    parser.add_argument("--runs", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--only", default="", help="workloads, comma-separated (default: all)")
    parser.add_argument("--times", type=int, default=3,
                        help="how much longer than the others native and direct run the compute kernels, "
                             "of whose seconds they report one part (default: 3, some 2 s)")
    parser.add_argument("--build", default="build")
    parser.add_argument("--guests", default="build/guest")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="doppel-bench.") as directory:
        workloads, names = build_workloads(directory)
        if arguments.only:
            names = [name for name in arguments.only.split(",") if name in names]
        parallel = PARALLEL in names
        waiting = [name for name in names if name in WAITING]
        names = [name for name in names if name != PARALLEL and name not in WAITING]
        initrd = make_initrd(arguments.guests, directory, workloads)
        busybox = os.path.join(directory, "busybox")
        subprocess.run(["cpio", "--quiet", "-i", "--to-stdout", "bin/busybox"], check=True,
                       stdin=open(os.path.join(arguments.guests, "cloud/initrd"), "rb"),
                       stdout=open(busybox, "wb"))
        os.chmod(busybox, 0o755)
        kernel = os.path.join(arguments.guests, "cloud/vmlinuz")
        doppel = os.path.join(arguments.build, "doppel")
        contenders = [Guest(engine, [doppel, "run", "-accel", engine],
                            arguments.times if engine == "direct" else 1)
                      for engine in arguments.engines.split(",") if engine]
        contenders.append(Guest("tcg", ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max"]))
        rounds = measure(contenders, lambda: run_native(workloads, busybox, names, arguments.times),
                         kernel, initrd, names, arguments)
        names = ["boot"] + names
        print_table(rounds, list(rounds[0]), names)
        print_geometric_means(rounds, list(rounds[0]))
        print_ways(rounds, [name for name in names if name in SIM_WORKLOADS])
        quick = [guest for guest in contenders if guest.name != "sim" or arguments.only]
        if parallel and len(rounds) == arguments.runs:
            measure_parallel(quick, kernel, initrd, arguments.runs)
        if waiting and len(rounds) == arguments.runs:
            measure_waiting(quick, kernel, initrd, arguments.runs, waiting)
        return 0 if check_sums(rounds, names) else 1


if __name__ == "__main__":
    sys.exit(main())
