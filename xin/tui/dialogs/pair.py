"""Pair two machines: one shows six digits for two minutes, on the other they are typed."""

from __future__ import annotations

import re
import shlex
import time

from textual import on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input, Static

from xin.errors import XinError
from xin.protocol.trust import Pairing
from xin.tui.dialogs.dialog import Dialog
from xin.tui.glyphs import G
from xin.tui.store import NodeView
from xin.tui.text import clean

TICK_SECONDS = 0.25
_DIGITS = re.compile(r"[0-9]{6}")


class PairWith(Dialog[str]):
    """Type the digits that `node` shows. Returns what came of it, in words; None for a person who went back."""

    DEFAULT_CSS = """
    PairWith #pair-fault {
        color: $error;
        height: auto;
    }
    """

    def __init__(self, node: NodeView) -> None:
        command = f"xin pair {shlex.quote(node.name or node.id)}"
        super().__init__(f"Pair with {node.name or node.id[:8]}", command=command, keys=f"{G.enter} pair   esc back")
        self._node = node

    def body(self) -> ComposeResult:
        yield Static(
            "Press P on that machine's workbench, or run there: xin pair\n"
            "It shows six digits for two minutes. Then both machines are one cluster: each lists the models of both, "
            "and may ask, launch and stop them.",
            markup=False,
        )
        yield Input(placeholder="the six digits", id="pair-digits", max_length=11)
        yield Input(self._node.name or self._node.id, id="pair-address")
        yield Static("", id="pair-fault", markup=False)

    @property
    def _address(self) -> str:
        return self.query_one("#pair-address", Input).value.strip()

    @on(Input.Changed)
    def _on_changed(self) -> None:
        self._tell("")

    @on(Input.Submitted)
    def _on_submitted(self) -> None:
        digits = self.query_one("#pair-digits", Input).value.replace(" ", "")
        if not _DIGITS.fullmatch(digits):
            self._tell("six digits, as the other machine shows them")
        elif not self._address:
            self._tell("whose digits? a name that the Bench shows, HOST or HOST:PORT")
        else:
            self._tell("", "asking …")
            self._pair(digits)

    @work(exclusive=True)
    async def _pair(self, digits: str) -> None:
        try:
            joined = await self.workbench.client("").join_cluster(digits, self._address)
        except XinError as exc:
            self._tell(clean(exc.message) + (f": {clean(exc.hint)}" if exc.hint else ""))
            return
        name = clean(joined.node_name)
        self.dismiss(
            f"in one cluster with {name} now" if joined.direction == "joined" else f"{name} is in this cluster now"
        )

    def _tell(self, fault: str, doing: str = "") -> None:
        self.command = f"xin pair {shlex.quote(self._address)}"
        self.query_one("#pair-fault", Static).update(Content.styled(doing, "$text-muted") if doing else fault)


class ShowDigits(Dialog[str]):
    """Show digits for another machine. Returns who came, in words; closing it makes the digits worth nothing."""

    DEFAULT_CSS = """
    ShowDigits #pair-secret {
        text-align: center;
        text-style: bold;
        color: $accent;
        margin: 1 0;
    }
    ShowDigits #pair-state {
        height: auto;
    }
    """

    def __init__(self) -> None:
        super().__init__("Pair this machine with another", command="xin pair", keys="esc close the door")
        self._before: set[str] = set()
        self._ends_at = 0.0

    def body(self) -> ComposeResult:
        yield Static(
            "On the other machine: its workbench, P on this node's row; or run what stands below.", markup=False
        )
        yield Static("", id="pair-secret", markup=False)
        yield Static("opening …", id="pair-state", markup=False)

    def on_mount(self) -> None:
        self._before = self._paired()
        self._open()

    def on_unmount(self) -> None:
        self.workbench.run_worker(self._close(), group="pair", exit_on_error=False)

    @work(exclusive=True)
    async def _open(self) -> None:
        try:
            opened = await self.workbench.client("").open_pairing()
        except XinError as exc:
            hint = f": {clean(exc.hint)}" if exc.hint else ""
            self.query_one("#pair-state", Static).update(Content.styled(clean(exc.message) + hint, "$error"))
            return
        self._ends_at = time.monotonic() + opened.seconds
        self.query_one("#pair-secret", Static).update(f"{opened.secret[:3]} {opened.secret[3:]}")
        self._where = " or ".join(f"xin pair {shlex.quote(place)}" for place in places(opened))
        self.set_interval(TICK_SECONDS, self._tick)
        self._tick()

    def _tick(self) -> None:
        """Who has come is told by the events that the workbench follows anyway."""
        if come := self._paired() - self._before:
            names = [view.name for view in self.workbench.store.nodes.values() if view.id in come]
            self.dismiss(f"in one cluster with {clean(', '.join(names))} now")
            return
        left = self._ends_at - time.monotonic()
        state = self.query_one("#pair-state", Static)
        if left > 0:
            state.update(f"{self._where}\n{left:.0f} s left; three wrong guesses end it")
        else:
            self.query_one("#pair-secret", Static).update(G.none)
            state.update("nobody came; the digits are worth nothing now")

    def _paired(self) -> set[str]:
        return {view.id for view in self.workbench.store.nodes.values() if view.relation == "peer"}

    async def _close(self) -> None:
        try:
            await self.workbench.client("").close_pairing()
        except XinError:
            self.log("the door could not be closed; it closes by itself")


def places(opened: Pairing) -> list[str]:
    """Where the other machine finds the door."""
    return [f"[{host}]:{opened.port}" if ":" in host else f"{host}:{opened.port}" for host in opened.addresses]
