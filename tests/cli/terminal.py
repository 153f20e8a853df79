"""A command on a pseudo-terminal of 80 by 24."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from types import TracebackType

from node_process import XIN


class Terminal:
    def __init__(self, *arguments: str, environ: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environ = {key: value for key, value in environ.items() if key != "COLUMNS"}
        self.process = subprocess.Popen(
            [*XIN, *arguments], stdin=slave, stdout=slave, stderr=slave, env={**environ, "TERM": "xterm"}
        )
        os.close(slave)
        self.output = ""
        self._seen = 0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self._master)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def read_until(self, text: str, seconds: float = 30) -> str:
        """What came up to and with `text`, from where the last such read ended."""
        deadline = time.monotonic() + seconds
        while (found := self.output.find(text, self._seen)) < 0:
            assert time.monotonic() < deadline, f"{text!r} did not come in {seconds} s:\n{self.output[self._seen :]}"
            assert self._read(), f"ended without {text!r}:\n{self.output[self._seen :]}"
        begun, self._seen = self._seen, found + len(text)
        return self.output[begun : self._seen]

    def finish(self, seconds: float = 30) -> int:
        """The exit code, once all has been read."""
        deadline = time.monotonic() + seconds
        while self._read():
            assert time.monotonic() < deadline, f"did not end in {seconds} s:\n{self.output}"
        return self.process.wait(10)

    def _read(self) -> bool:
        """False at the end."""
        ready, _, _ = select.select([self._master], [], [], 0.1)
        if not ready:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux says EIO when the other side has closed
            return False
        self.output += data.decode(errors="replace")
        return bool(data)
