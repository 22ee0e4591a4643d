"""A machine that runs while a test talks to it: its serial line, its control socket, ssh."""
import json
import os
import re
import socket
import subprocess
import threading
import time

import guests


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Control:
    """A client of the control socket, in QMP's wire format."""

    def __init__(self, path, timeout=100):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.file = self.socket.makefile("rw", encoding="utf-8")
        self.events = []
        self.greeting = json.loads(self.file.readline())
        self.call("qmp_capabilities")

    def call(self, command, **arguments):
        """The answer's `return`; an error raises. Events on the way are kept in `events`."""
        request = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self.file.write(json.dumps(request) + "\n")
        self.file.flush()
        while True:
            line = self.file.readline()
            if not line:
                raise OSError("the control socket closed")
            answer = json.loads(line)
            if "event" in answer:
                self.events.append(answer["event"])
            elif "error" in answer:
                raise OSError("%s: %s" % (command, answer["error"].get("desc")))
            else:
                return answer["return"]


class Machine:
    """A guest on an engine of Doppel, or on `qemu` (TCG), with a thread that reads its console.

    `words` are options that both know. With `directory` the machine has a control socket there.
    Use it as a context: whatever happens, its process ends with the block.
    """

    def __init__(self, engine, doppel, words, directory=None, vga=False):
        words = ["-nographic"] + list(words)
        self.socket = os.path.join(directory, "control") if directory else None
        if self.socket:
            words += ["-qmp", "unix:%s,server=on,wait=off" % self.socket]
        if engine == "qemu":
            words = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max"] + (
                [] if vga else ["-vga", "none"]) + words
        else:
            words = [doppel, "run", "-accel", engine] + words
        self.words = words
        self.start = time.monotonic()
        self.console = ""
        self.changed = threading.Condition()
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        self.errors = b""
        self.readers = [threading.Thread(target=self.read_console, daemon=True),
                        threading.Thread(target=self.read_errors, daemon=True)]
        for reader in self.readers:
            reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def read_console(self):
        rest = ""
        while True:
            chunk = os.read(self.process.stdout.fileno(), 65536)
            text = rest + chunk.decode(errors="replace")
            cut = re.search(r"(\x1b(\[[0-9;?]*)?)?\Z", text).start()  # a sequence whose end is to come
            rest = text[cut:]
            with self.changed:
                self.console += guests.plain(text[:cut])
                self.changed.notify_all()
            if not chunk:
                return

    def read_errors(self):
        self.errors = self.process.stderr.read()

    def ended(self):
        return self.process.poll() is not None

    def wait_for(self, pattern, timeout, after=0):
        """Seconds since power-on when the console shows the pattern behind position `after`.

        None when it did not within the time, or the machine ended before.
        """
        deadline = time.monotonic() + timeout
        expression = re.compile(pattern, re.MULTILINE)
        with self.changed:
            while not expression.search(self.console, after):
                if time.monotonic() > deadline or (self.ended() and not self.readers[0].is_alive()):
                    return None
                self.changed.wait(0.2)
        return time.monotonic() - self.start

    def mark(self):
        """Where the console is now, for `wait_for`."""
        with self.changed:
            return len(self.console)

    def type(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def control(self):
        return Control(self.socket)

    def wait(self, timeout):
        """The exit status, or None when the machine still runs after that many seconds. All that it
        said is read then: the readers may be late on a busy host."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        for reader in self.readers:
            reader.join(timeout)
        return status

    def kill(self):
        if not self.ended():
            self.process.kill()
        self.process.wait()
        for reader in self.readers:
            reader.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()

    def processor_seconds(self):
        """Host processor time that the machine has used, user and system."""
        with open("/proc/%d/stat" % self.process.pid, encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def last_words(self, count=3000):
        return self.console[-count:] + "\n" + self.errors.decode(errors="replace")[-count:]


class Ssh:
    """Commands in a guest whose port 22 is a port of ours."""

    def __init__(self, key, port):
        self.words = ["ssh", "-q", "-i", key, "-p", str(port), "-o", "StrictHostKeyChecking=no",
                      "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes",
                      "-o", "ConnectTimeout=100", "root@127.0.0.1"]

    def run(self, script, timeout, stdin=b""):
        """(status, output) of a shell script; status is None when it took too long."""
        try:
            done = subprocess.run(self.words + [script], input=stdin, capture_output=True,
                                  timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            return None, ""
        return done.returncode, (done.stdout + done.stderr).decode(errors="replace")

    def wait(self, timeout):
        """Until the guest lets us in."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.run("true", 100)[0] == 0:
                return True
            time.sleep(0.5)
        return False
