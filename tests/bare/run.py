#!/usr/bin/env python3
"""Runs one test kernel on one engine and says whether it passed.

A kernel ends through the debug-exit port: status 33 is a pass, 35 a failure, everything else a
crash.
Kernels that end the machine themselves (reset, power off) print "ENDS" just before; then the
process must end by itself with a status that is not one of those two.
"""
import argparse
import os
import shutil
import subprocess
import sys

PASS, FAIL, SKIPPED = 33, 35, 77
EXIT_DEVICE = 'isa-debug-exit,iobase=0xf4,iosize=0x4'


def command(args):
    common = ['-kernel', args.kernel, '-m', args.memory, '-smp', str(args.smp), '-nographic',
              '-device', EXIT_DEVICE, '-no-reboot']
    for device in args.devices.split():
        common += ['-device', device]
    if args.engine == 'qemu':
        binary = shutil.which('qemu-system-x86_64')
        if not binary:
            return None
        return [binary, '-accel', 'tcg', '-cpu', args.cpu, '-nic', 'none', '-vga', 'none',
                '-chardev', 'stdio,id=text', '-serial', 'chardev:text',
                '-monitor', 'none'] + common
    return [args.doppel, 'run', '-accel', args.engine, '-cpu', args.cpu] + common


def passed(args, status, output):
    if args.ends == 'pass':
        return status == PASS
    ended = 'ENDS' in output and 'FAIL' not in output and status not in (PASS, FAIL)
    if args.ends == 'off':
        return ended and status == 0
    return ended and 0 <= status < 128


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('engine', help='qemu, or an engine of Doppel: sim, bt, direct, kvm')
    parser.add_argument('kernel')
    parser.add_argument('--doppel', default='build/doppel')
    parser.add_argument('--cpu', default='max', help='processor model')
    parser.add_argument('--devices', default='', help='more of them, separated by blanks')
    parser.add_argument('--memory', default='64M')
    parser.add_argument('--smp', type=int, default=1)
    parser.add_argument('--ends', choices=['pass', 'reset', 'off'], default='pass')
    parser.add_argument('--timeout', type=float, default=300)
    args = parser.parse_args()

    words = command(args)
    if words is None or not (shutil.which(words[0]) or os.path.exists(words[0])):
        print('SKIP: no', 'QEMU' if words is None else words[0])
        return SKIPPED
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=args.timeout)
        status, output = done.returncode, done.stdout.decode(errors='replace')
    except subprocess.TimeoutExpired as late:
        status, output = None, (late.stdout or b'').decode(errors='replace')
    sys.stdout.write(output)
    if 'no engine can run here' in output:
        print('SKIP: no engine', args.engine)
        return SKIPPED
    if status is not None and passed(args, status, output):
        print('PASS')
        return 0
    print('FAIL: no end within %g s' % args.timeout if status is None
          else 'FAIL: exit status %d' % status)
    return 1


if __name__ == '__main__':
    sys.exit(main())
