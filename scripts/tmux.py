"""A program in a tmux window of its own server, driven by keys and read as the screen that a person sees."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")


class NotShown(Exception):
    """The screen did not come to show what was waited for."""


class Tmux:
    """`with` it: the window has exactly `size` (columns, rows), true colour, no status line, no kitty keyboard."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], size: tuple[int, int]) -> None:
        self.size = size
        self._command = shlex.join(command)
        self._environ = {**environ, "TERM": "xterm-256color"}
        self._server = f"xin-{os.getpid()}-{id(self)}"

    def __enter__(self) -> Tmux:
        columns, rows = map(str, self.size)
        options = ["set -g status off", "set -g default-terminal tmux-256color", "set -sg escape-time 5"]
        options.append("set -g remain-on-exit on")
        setup = [word for option in options for word in (*option.split(), ";")]
        shell = f"COLORTERM=truecolor exec {self._command}"
        self._tmux(*setup, "new-session", "-d", "-x", columns, "-y", rows, shell)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        subprocess.run(["tmux", "-L", self._server, "kill-server"], stderr=subprocess.DEVNULL, check=False)

    def press(self, *keys: str) -> None:
        """tmux's names of keys: Enter, F1, C-p, M-a, Left …; single characters as they are."""
        for key in keys:
            self._tmux("send-keys", "-l" if len(key) == 1 else "--", *(["--", key] if len(key) == 1 else [key]))

    def type(self, text: str, seconds_each: float = 0.0) -> None:
        for character in text:
            self._tmux("send-keys", "-l", "--", character)
            time.sleep(seconds_each)

    def paste(self, text: str) -> None:
        """As the terminal pastes: bracketed."""
        self._tmux("load-buffer", "-", stdin=text)
        self._tmux("paste-buffer", "-p", "-r", "-d")

    def resize(self, columns: int, rows: int) -> None:
        self.size = (columns, rows)
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def ansi(self) -> str:
        return self._tmux("capture-pane", "-p", "-e", "-N").rstrip("\n")

    def text(self) -> str:
        return _COLOURS.sub("", self.ansi())

    def wait(self, *texts: str, seconds: float = 30.0) -> str:
        """Until the screen shows all of `texts`."""
        deadline = time.monotonic() + seconds
        while any(text not in (screen := self.text()) for text in texts):
            if time.monotonic() > deadline:
                raise NotShown(f"{texts} did not come in {seconds:g} s:\n{screen}")
            time.sleep(0.05)
        return screen

    def alive(self) -> bool:
        return self._tmux("display-message", "-p", "#{pane_dead}").strip() == "0"

    def _tmux(self, *arguments: str, stdin: str | None = None) -> str:
        command = ["tmux", "-L", self._server, "-f", "/dev/null", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, env=self._environ, check=False)
        if done.returncode:
            raise NotShown(f"tmux {' '.join(arguments[:2])}: {done.stderr.strip() or 'the program has ended'}")
        return done.stdout
