"""A program on a pseudo-terminal of some size, whose output is kept with the time at which it came."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

SIZE = (120, 36)
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;:<=>?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class ScreenFailed(Exception):
    """The program did not show what it should have."""


class Screen:
    """`with` it. Read with `pump`; `text` is all output so far without escape sequences."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], size: tuple[int, int]) -> None:
        columns, rows = size
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        kept = {key: value for key, value in environ.items() if key not in ("COLUMNS", "LINES")}
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**kept, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
            start_new_session=True,
        )
        os.close(slave)
        self.text = ""
        self.bytes = 0
        self._tail = ""

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self._drain_until_gone(10)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
            os.close(self._master)

    def type(self, keys: str) -> None:
        data = keys.encode()
        while data:
            written = os.write(self._master, data[:1024])
            data = data[written:]
            self.pump(0)

    def pump(self, seconds: float) -> str:
        """Take what has come, waiting up to `seconds` for it; returns the new text."""
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return ""
        try:
            data = os.read(self._master, 1 << 18)
        except OSError:
            return ""
        self.bytes += len(data)
        raw = self._tail + data.decode(errors="replace")
        cut = raw.rfind("\x1b", max(0, len(raw) - 64))
        whole = cut < 0 or _ESCAPES.match(raw, cut) is not None
        raw, self._tail = (raw, "") if whole else (raw[:cut], raw[cut:])
        new = _ESCAPES.sub("", raw)
        self.text += new
        return new

    def until(self, true: Callable[[str], bool], seconds: float = 60.0) -> float:
        """Wait until `true(text)`; returns the seconds since the program's start."""
        deadline = time.perf_counter() + seconds
        while not true(self.text):
            if time.perf_counter() > deadline or self.process.poll() is not None:
                raise ScreenFailed(f"did not come; the last output:\n{self.text[-1500:]}")
            self.pump(0.05)
        return time.perf_counter() - self.began

    def settle(self, seconds: float) -> None:
        """Let it go on for so long, its output taken."""
        deadline = time.perf_counter() + seconds
        while (left := deadline - time.perf_counter()) > 0:
            self.pump(left)

    def _drain_until_gone(self, seconds: float) -> None:
        deadline = time.perf_counter() + seconds
        while self.process.poll() is None and time.perf_counter() < deadline:
            self.pump(0.05)
