"""On a real pseudo-terminal: however the workbench ends, the terminal is as it was."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

ENTER, LEAVE, SHOW_CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"
CRASH = """
from xin.tui.run import OnTerminal

class Crashing(OnTerminal):
    def on_ready(self):
        self.set_timer(0.2, lambda: 1 / 0)

app = Crashing(None, connect=False)
app.run()
raise SystemExit(app.return_code)
"""


def own_terminal() -> None:
    """So that closing it hangs the process up."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Tui:
    """`with` it: a workbench on a terminal of its own."""

    def __init__(self, *command: str, size: tuple[int, int] = (80, 24), owned: bool = True, **environ: str) -> None:
        self.master, self.slave = pty.openpty()
        columns, rows = size
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        self.output = ""
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "TEXTUAL_DRIVER")}
        self.process = subprocess.Popen(
            command or [sys.executable, "-m", "xin", "tui", "-e", "http://127.0.0.1:9"],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env={**kept, "TERM": "xterm-256color", **environ},
            start_new_session=True,
            preexec_fn=own_terminal if owned else None,
        )

    def __enter__(self) -> Tui:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        for handle in (self.master, self.slave):
            if handle >= 0:
                os.close(handle)

    def read(self, seconds: float) -> None:
        if select.select([self.master], [], [], seconds)[0]:
            self.output += os.read(self.master, 65536).decode(errors="replace")

    def wait_for(self, text: str, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.output:
            assert time.monotonic() < deadline, f"{text!r} did not come: {self.output[-2000:]!r}"
            self.read(0.1)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def ended(self, seconds: float = 10) -> int:
        """Its exit code; its terminal is drained meanwhile."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it did not end"
            self.read(0.05)
        while select.select([self.master], [], [], 0.1)[0]:
            self.read(0)
        return self.process.returncode

    def assert_restored(self) -> None:
        assert self.output.rindex(LEAVE) > self.output.rindex(ENTER)
        assert SHOW_CURSOR in self.output[self.output.rindex(LEAVE) :]
        for mode in ("?1000l", "?1006l", "?2004l", "?1004l"):
            assert f"\x1b[{mode}" in self.output, mode
        assert termios.tcgetattr(self.slave)[:4] == self.before[:4]


def test_ctrl_q_leaves_the_terminal_as_it_was():
    with Tui() as tui:
        tui.wait_for("Bench")
        tui.type("\x11")
        assert tui.ended() == 0
        tui.assert_restored()


def test_keys_that_are_pressed_before_the_first_place_is_there_are_not_lost():
    with Tui() as tui:
        tui.type("4")
        tui.wait_for("follow")
        tui.type("\x11")
        assert tui.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(number):
    with Tui() as tui:
        tui.wait_for("Bench")
        tui.process.send_signal(number)
        assert tui.ended() == 128 + number
        tui.assert_restored()


def test_a_fault_leaves_the_terminal_as_it_was_and_is_told(tmp_path):
    script = tmp_path / "crash.py"
    script.write_text(CRASH)
    with Tui(sys.executable, str(script)) as tui:
        tui.wait_for("Bench")
        assert tui.ended() == 1
        tui.assert_restored()
        assert "ZeroDivisionError" in tui.output[tui.output.rindex(LEAVE) :]


@pytest.mark.parametrize("owned", [True, False], ids=["with a signal", "without one"])
def test_a_terminal_that_goes_away_ends_it(owned):
    tui = Tui(owned=owned)
    try:
        tui.wait_for("Bench")
        os.close(tui.slave)
        os.close(tui.master)
        tui.master = tui.slave = -1
        assert tui.process.wait(10) == 128 + signal.SIGHUP
    finally:
        tui.__exit__()


def test_without_colour_nothing_is_coloured():
    with Tui(NO_COLOR="1") as tui:
        tui.wait_for("Bench")
        tui.type("\x11")
        assert tui.ended() == 0
    with Tui() as coloured:
        coloured.wait_for("Bench")
        coloured.type("\x11")
        assert coloured.ended() == 0
    assert colours(tui.output) <= {"grey"}
    assert "hue" in colours(coloured.output)


def colours(output: str) -> set[str]:
    """grey and hue, as far as 24-bit colours are written."""
    found = set()
    for part in output.split("\x1b[")[1:]:
        numbers = part.partition("m")[0].split(";")
        for index, number in enumerate(numbers):
            if number in ("38", "48") and numbers[index + 1 : index + 2] == ["2"]:
                red, green, blue = (int(value) for value in numbers[index + 2 : index + 5])
                found.add("grey" if red == green == blue else "hue")
            elif number in ("38", "48") and numbers[index + 1 : index + 2] == ["5"]:
                shade = int(numbers[index + 2])
                greys = shade >= 232 or (
                    shade >= 16 and len({(shade - 16) // 36, (shade - 16) // 6 % 6, (shade - 16) % 6}) == 1
                )
                found.add("grey" if greys else "hue")
    return found


def test_off_a_terminal_it_says_what_to_use():
    done = subprocess.run(
        [sys.executable, "-m", "xin", "tui"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "needs a terminal" in done.stderr and "xin list" in done.stderr
