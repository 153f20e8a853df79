"""Runs the workbench on this terminal, and leaves the terminal as it was however it ends."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from xin.tui.app import Workbench

if TYPE_CHECKING:
    from textual.driver import Driver

    from xin.tui.start import Starter

LAST_SECONDS = 3.0
SETTLED_SECONDS = 3.0
PARENT_SECONDS = 2.0
COLLECT_AFTER = (2_000, 25, 200)


def run(
    endpoint: str | None = None,
    *,
    readonly: bool = False,
    ascii: bool = False,
    theme: str | None = None,
    starter: Starter | None = None,
) -> int:
    """The exit code. Raises UsageError off a terminal."""
    if not os.environ.get("TEXTUAL_DRIVER") and not (sys.stdin.isatty() and sys.stdout.isatty()):
        from xin.errors import UsageError

        raise UsageError("xin tui needs a terminal", "without one: xin list, xin run, xin jobs, xin logs")
    app = OnTerminal(endpoint, readonly=readonly, ascii=ascii, theme=theme, starter=starter)
    app.run()
    return app.return_code or 0


class OnTerminal(Workbench):
    """Paints its frame before the first place is there; ends in order when the terminal closes or it is told to end."""

    FRONT = True

    def get_driver_class(self) -> type[Driver]:
        driver = super().get_driver_class()
        module = sys.modules[driver.__module__]
        if hasattr(module, "XTermParser"):
            from xin.tui.paste_parser import PasteParser

            module.XTermParser = PasteParser  # type: ignore[attr-defined]
        return driver

    def on_mount(self) -> None:
        if not self.is_web:  # there Textual's driver listens itself
            for number in (signal.SIGTERM, signal.SIGHUP):
                asyncio.get_running_loop().add_signal_handler(number, self._end, number)
            threading.Thread(target=_end_with_terminal, name="terminal", daemon=True).start()
        else:
            self._node_pid = os.getppid()
            self.set_interval(PARENT_SECONDS, self._end_without_node)
        self.set_timer(SETTLED_SECONDS, self._settle)

    def _settle(self) -> None:
        """What is loaded stays, and cycles are few: a collection of all holds up keys for a fifth of a second."""
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)

    def _end_without_node(self) -> None:
        """In a browser the node is the parent; killed, it cannot end its visitors."""
        if os.getppid() != self._node_pid:
            self.exit()

    def _end(self, number: int) -> None:
        """A terminal that is gone blocks whoever writes to it, so this waits only so long."""
        timer = threading.Timer(LAST_SECONDS, os._exit, (128 + number,))
        timer.daemon = True
        timer.start()
        self.exit(return_code=128 + number)


def _end_with_terminal() -> None:
    """A terminal may go without a signal, and leave the event loop stuck in a write to it."""
    poll = select.poll()
    poll.register(sys.__stdin__.fileno() if sys.__stdin__ else 0, 0)
    if any(told & (select.POLLHUP | select.POLLERR) for _, told in poll.poll()):
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(LAST_SECONDS)
        os._exit(128 + signal.SIGHUP)
