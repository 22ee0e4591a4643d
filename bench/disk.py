#!/usr/bin/env python3
"""A whole Debian system measured: start, disk, network, compiler, rest; beside QEMU TCG in one run.

usage: bench/disk.py [--engines bt,direct] [--runs N] [--only NAME,...] [--build DIR] [--guests DIR]

Each round starts every contender once, in turn, with the same devices, and does the same work in it by
ssh; a ratio is the median of the rounds' ratios. The disk is what tools/disk.sh makes. Rows:

  login      seconds from power-on to the login prompt                     bar: 0.5 x TCG
  gcc        seconds of gcc -O2 for 5,000 lines                             bar: 0.4 x TCG
  fio_*      KiB/s of 4 KiB random reads or writes at queue depth 1 and 32,
             and of sequential ones of 1 MiB                                bar: 1.5 x TCG
  net_*      Mbit/s by iperf3 over the user network                         bar: 1.5 x TCG
  idle       percent of one host core while nothing happens                 bar: 2
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tests", "boot"))
import machine  # noqa: E402
import system  # noqa: E402

FIO = {
    "fio_read_1": ("randread", "4k", 1), "fio_read_32": ("randread", "4k", 32),
    "fio_write_1": ("randwrite", "4k", 1), "fio_write_32": ("randwrite", "4k", 32),
    "fio_read_1m": ("read", "1m", 4), "fio_write_1m": ("write", "1m", 4),
}
NET = {"net_to_host": [], "net_to_guest": ["-R"]}
NAMES = ["login", "gcc"] + list(FIO) + list(NET) + ["idle"]
TIMEOUT = 600


def c_program(lines=5000):
    """C source of that many lines, with loops, calls and switches for the optimiser."""
    text = ["static unsigned s;"]
    for i in range((lines - 6) // 8):
        text += ["static unsigned f%d(unsigned a, unsigned b)" % i, "{",
                 "    unsigned r = a * %du + b;" % (2 * i + 3),
                 "    for (unsigned i = 0; i < (a & 15); i++)",
                 "        r = (r << %d) ^ (r >> 3) ^ s++;" % (i % 29 + 1),
                 "    return r %% %du ? r : %s;" % (i + 2, "f%d(r, b ^ a)" % (i - 1) if i else "b"),
                 "}"]
    calls = ["    r += f%d(r, (unsigned)argc);" % i for i in range((lines - 6) // 8)]
    return "\n".join(text + ["int main(int argc, char **argv)", "{", "    unsigned r = 1;"] + calls +
                     ["    return (int)r + !argv;", "}"]) + "\n"


def measure_fio(ssh, row):
    kind, size, depth = FIO[row]
    status, output = ssh.run(
        "fio --name=x --filename=/root/fio --size=256m --direct=1 --ioengine=libaio --rw=%s --bs=%s "
        "--iodepth=%d --runtime=4 --time_based --output-format=json" % (kind, size, depth), TIMEOUT)
    if status != 0:
        return None
    job = json.loads(output[output.index("{"):])["jobs"][0]
    return float(job["write" if "write" in kind else "read"]["bw"])


def measure_net(ssh, row):
    port = machine.free_port()
    with subprocess.Popen(["iperf3", "-s", "-1", "-p", str(port)], stdout=subprocess.DEVNULL) as server:
        time.sleep(0.5)
        status, output = ssh.run("iperf3 -J -t 4 -c 10.0.2.2 -p %d %s" % (port, " ".join(NET[row])),
                                 60)
        server.kill()
    return json.loads(output)["end"]["sum_received"]["bits_per_second"] / 1e6 if status == 0 else None


def measure_gcc(ssh):
    ssh.run("cat > /root/big.c", TIMEOUT, c_program().encode())
    status, output = ssh.run("gcc -O0 -c -o /dev/null /root/big.c; s=$(date +%s.%N); "
                             "gcc -O2 -c -o /root/big.o /root/big.c; echo $s $(date +%s.%N)", TIMEOUT)
    if status != 0:
        return None
    start, end = output.split()[-2:]
    return float(end) - float(start)


def measure_idle(guest):
    time.sleep(5)
    before = guest.processor_seconds()
    time.sleep(10)
    return (guest.processor_seconds() - before) * 10


def measure(engine, args, names):
    """One contender's round: {row: value}."""
    source = os.path.join(args.guests, "disk")
    results = {}
    with tempfile.TemporaryDirectory() as directory:
        disk, port = system.make_disk(directory, source, "raw"), machine.free_port()
        ssh = machine.Ssh(os.path.join(source, "key"), port)
        words = ["-m", "1G", "-drive", "file=%s,format=raw,if=virtio" % disk,
                 "-nic", "user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:%d-:22" % port]
        with machine.Machine(engine, os.path.join(args.build, "doppel"), words) as guest:
            results["login"] = guest.wait_for(system.LOGIN, TIMEOUT)
            if results["login"] is None or not ssh.wait(TIMEOUT):
                sys.stderr.write(guest.last_words())
                return {}
            for row in names:
                if row in FIO:
                    results[row] = measure_fio(ssh, row)
                elif row in NET and shutil.which("iperf3"):
                    results[row] = measure_net(ssh, row)
                elif row == "gcc":
                    results[row] = measure_gcc(ssh)
                elif row == "idle":
                    results[row] = measure_idle(guest)
    results = {row: value for row, value in results.items() if value}
    sys.stderr.write("bench: %s: %s\n" % (engine, ", ".join(
        "%s %.1f" % item for item in results.items())))
    return results


def cell(values, pattern):
    return pattern.format(statistics.median(values)) if values else "-"


def print_table(rounds, engines, names):
    rows = [["row"] + engines + ["%s/tcg" % engine for engine in engines[:-1]]]
    for name in names:
        row = [name] + [cell([r[e][name] for r in rounds if name in r[e]], "{:.1f}")
                        for e in engines]
        for engine in engines[:-1]:
            ratios = [r[engine][name] / r["qemu"][name] for r in rounds
                      if name in r[engine] and name in r["qemu"]]
            row.append(cell(ratios, "{:.2f}"))
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) if i == 0 else text.rjust(width)
                        for i, (text, width) in enumerate(zip(row, widths))), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default="bt,direct")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", default=",".join(NAMES))
    parser.add_argument("--build", default="build")
    parser.add_argument("--guests", default="build/guest")
    args = parser.parse_args()
    if not os.path.exists(os.path.join(args.guests, "disk", "disk.raw")):
        sys.exit("bench: no system disk; `make disk` makes it")
    names = [name for name in NAMES if name in args.only.split(",")]
    engines = args.engines.split(",") + ["qemu"]
    rounds = []
    for _ in range(args.runs):
        rounds.append({engine: measure(engine, args, names) for engine in engines})
        print_table(rounds, engines, names)
    return 0


if __name__ == "__main__":
    sys.exit(main())
