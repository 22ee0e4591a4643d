"""A terminal for -display curses: a pseudo-terminal, and as much of a VT100 as ncurses uses."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

ROWS, COLUMNS = 50, 100
SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z@])|\x1b[()]([0-9A-Za-z])|\x1b([78=>DEM])|([^\x1b])")


class Screen:
    """What a VT100 shows after it got some text."""

    def __init__(self):
        self.cells = [[" "] * COLUMNS for _ in range(ROWS)]
        self.row = self.column = 0
        self.saved = (0, 0)
        self.first, self.last = 0, ROWS - 1
        self.rest = ""

    def lines(self):
        return ["".join(row).rstrip() for row in self.cells]

    def feed(self, text):
        text = self.rest + text
        at = 0
        while at < len(text):
            match = SEQUENCE.match(text, at)
            if not match:  # cut in the middle
                break
            at = match.end()
            arguments, final, _, escape, plain = match.groups()
            if plain:
                self.put(plain)
            elif final:
                self.control(final, arguments)
            elif escape:
                self.escape(escape)
        self.rest = text[at:]

    def scroll(self, by):
        rows = self.cells[self.first:self.last + 1]
        empty = [[" "] * COLUMNS for _ in range(abs(by))]
        rows = rows[by:] + empty if by > 0 else empty + rows[:by]
        self.cells[self.first:self.last + 1] = rows

    def line_feed(self):
        if self.row == self.last:
            self.scroll(1)
        else:
            self.row = min(self.row + 1, ROWS - 1)

    def put(self, char):
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self.line_feed()
        elif char == "\b":
            self.column = max(self.column - 1, 0)
        elif char == "\t":
            self.column = min(self.column + 8 & ~7, COLUMNS - 1)
        elif char >= " ":
            if self.column == COLUMNS:
                self.column = 0
                self.line_feed()
            self.cells[self.row][self.column] = char
            self.column += 1

    def escape(self, final):
        if final == "7":
            self.saved = (self.row, self.column)
        elif final == "8":
            self.row, self.column = self.saved
        elif final == "D":
            self.line_feed()
        elif final == "M":
            if self.row == self.first:
                self.scroll(-1)
            else:
                self.row -= 1

    def control(self, final, arguments):
        if arguments.startswith("?"):
            return
        numbers = [int(n) if n else 0 for n in arguments.split(";")] if arguments else [0]
        count = max(numbers[0], 1)
        if final in "Hf":
            self.row = min(count, ROWS) - 1
            self.column = min(max((numbers + [0])[1], 1), COLUMNS) - 1
        elif final == "r":
            self.first = count - 1
            self.last = ((numbers + [0])[1] or ROWS) - 1
            self.row = self.column = 0
        elif final in "ABCD":
            down, right = {"A": (-1, 0), "B": (1, 0), "C": (0, 1), "D": (0, -1)}[final]
            self.row = min(max(self.row + down * count, 0), ROWS - 1)
            self.column = min(max(self.column + right * count, 0), COLUMNS - 1)
        elif final == "K":
            start = 0 if numbers[0] else self.column
            end = COLUMNS if numbers[0] != 1 else min(self.column + 1, COLUMNS)
            self.cells[self.row][start:end] = [" "] * (end - start)
        elif final == "J":
            if numbers[0] == 0:
                self.control("K", "")
            first = 0 if numbers[0] else self.row + 1
            for row in range(first, ROWS):
                self.cells[row] = [" "] * COLUMNS


class Terminal:
    """A program in a terminal, by whose screen one can wait and into which one can type."""

    def __init__(self, command):
        self.screen = Screen()
        self.status = None
        self.received = 0  # bytes
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.environ.update(TERM="vt100", LANG="C.UTF-8")
            os.execvp(command[0], command)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))

    def pump(self, seconds):
        """Reads what comes; False: the program has ended."""
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""
        self.received += len(data)
        self.screen.feed(data.decode("utf-8", "replace"))
        return bool(data)

    def wait(self, pattern, seconds):
        """Waits until a line of the screen matches."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if any(re.search(pattern, line) for line in self.screen.lines()):
                return True
            if not self.pump(0.2):
                break
        return any(re.search(pattern, line) for line in self.screen.lines())

    def type(self, text):
        """Not faster than a machine takes it, which is when something shows on the screen, or the program ends."""
        for char in text:
            self.send(char)
            start, before = time.monotonic(), self.received
            while self.pump(0.02):
                waited = time.monotonic() - start
                if waited > 30 or (waited > 0.06 and self.received != before):
                    break

    def send(self, text):
        """Keys that may show nothing, at once."""
        os.write(self.fd, text.encode())

    def end(self, seconds=100):
        """Waits for the program's end, with force if need be; its exit status, None: killed."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit and self.pump(0.1):
            pass
        done, status = os.waitpid(self.pid, os.WNOHANG)
        while not done and time.monotonic() < limit:
            time.sleep(0.05)
            done, status = os.waitpid(self.pid, os.WNOHANG)
        if not done:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status) if done else None
