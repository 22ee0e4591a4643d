"""A QMP client of our own, written from the protocol's description, and a machine to talk to."""
import json
import os
import socket
import struct
import subprocess
import tempfile
import time

TIMEOUT = 300
LOAD = 0x200000

# Machine code, 32-bit protected mode; EBX points to the multiboot information.
HALT = b"\xfa\xf4\xeb\xfd"
SPIN = b"\xff\x05\x00\x00\x30\x00\xeb\xf8"                      # incl 0x300000; jmp
POWER_OFF = b"\x66\xba\x04\x06\x66\xb8\x00\x20\x66\xef" + HALT  # outw SLP_TYP 0 | SLP_EN, $0x604
RESET = b"\xb0\xfe\xe6\x64" + HALT                              # keyboard controller pulse


class Client:
    """One connection. Events that arrive while an answer is awaited are kept in `events`."""

    def __init__(self, path=None, sock=None, negotiate=True):
        self.events = []
        if sock is None:
            sock = connect(path)
        self.sock = sock
        self.file = sock.makefile("rb")
        self.greeting = self.read()
        if negotiate:
            self.command("qmp_capabilities")

    def read(self):
        line = self.file.readline()
        if not line:
            raise EOFError("the socket was closed")
        return json.loads(line)

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else json.dumps(data).encode())

    def answer(self):
        """The next answer, past events."""
        while True:
            message = self.read()
            if "event" not in message:
                return message
            self.events.append(message)

    def ask(self, name, id_=None, **arguments):
        message = {"execute": name}
        if arguments:
            message["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
        if id_ is not None:
            message["id"] = id_
        self.send(message)
        return self.answer()

    def command(self, name, **arguments):
        answer = self.ask(name, **arguments)
        if "return" not in answer:
            raise AssertionError("%s: %s" % (name, answer))
        return answer["return"]

    def error(self, name, **arguments):
        return self.ask(name, **arguments)["error"]

    def hmp(self, line):
        return self.command("human-monitor-command", command_line=line)

    def event(self, name):
        """Waits for an event of that name, and returns it."""
        while True:
            for event in self.events:
                if event["event"] == name:
                    self.events.remove(event)
                    return event
            message = self.read()
            assert "event" in message, message
            self.events.append(message)

    def close(self):
        self.file.close()
        self.sock.close()


def connect(path, process=None):
    """Connects to a socket that may not be there yet; not when the process that makes it has ended."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(TIMEOUT)
        try:
            sock.connect(path)
            return sock
        except OSError:
            sock.close()
            if time.monotonic() > deadline or (process and process.poll() is not None):
                raise
            time.sleep(0.01)


def kernel(path, code):
    """Writes a multiboot kernel of this machine code."""
    magic, flags = 0x1BADB002, 1 << 16
    header = struct.pack("<8I", magic, flags, -(magic + flags) & 0xFFFFFFFF, LOAD, LOAD, 0, 0, LOAD + 32)
    with open(path, "wb") as file:
        file.write(header + code)
    return path


class Machine:
    """A machine with a control socket, and a directory that goes with it."""

    def __init__(self, doppel, code, *words, negotiate=True):
        self.directory = tempfile.TemporaryDirectory()
        self.socket = self.path("qmp")
        self.process = subprocess.Popen(
            [doppel, "run", "-kernel", kernel(self.path("kernel"), code), "-m", "16M", "-serial", "null",
             "-qmp", "unix:%s,server=on,wait=off" % self.socket,
             *[word.replace("@", self.directory.name + "/") for word in words]],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            self.qmp = Client(sock=connect(self.socket, self.process), negotiate=negotiate)
        except Exception:
            self.close()
            raise

    def path(self, name):
        return os.path.join(self.directory.name, name)

    def wait(self):
        return self.process.wait(TIMEOUT)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        if hasattr(self, "qmp"):
            self.qmp.close()
        self.directory.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()
