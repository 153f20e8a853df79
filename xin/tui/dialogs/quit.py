"""Leaving, when something goes on without the workbench."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from xin.tui.dialogs.dialog import Dialog
from xin.tui.glyphs import G
from xin.tui.store import Store
from xin.tui.text import clean

MOST = 6


class Quit(Dialog[bool]):
    """True to leave; ctrl+q again is yes too."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,ctrl+q", "leave", "leave", id="quit.yes", priority=True, tooltip="Leave; the nodes go on"),
    ]

    def __init__(self, going_on: Sequence[str], ending: Sequence[str]) -> None:
        super().__init__("Leave the workbench?", command="xin node stop", keys=f"{G.enter} leave   esc stay")
        self._going_on = going_on
        self._ending = ending

    def body(self) -> ComposeResult:
        parts = []
        if self._ending:
            parts += [Content.styled("Ends with it, kept as far as it is:", "bold"), *map(_line, self._ending)]
        if self._going_on:
            parts += [Content.styled("Goes on, since the nodes do the work:", "bold"), *map(_line, self._going_on)]
            parts.append(Content.styled("To end that too, stop the node:", "$text-muted"))
        yield Static(Content("\n").join(parts), id="quit-list")

    def action_leave(self) -> None:
        self.dismiss(True)


def goes_on(store: Store) -> list[str]:
    """What the nodes do on when nobody watches."""
    lines = []
    for view in store.nodes.values():
        models = [one.model_uid for one in view.instances.values() if one.state != "failed"]
        if models and view.status != "gone":
            more = f" and {len(models) - 3} more" if len(models) > 3 else ""
            lines.append(f"{len(models)} model{'s' * (len(models) > 1)} on {view.name}: {', '.join(models[:3])}{more}")
    lines += [f"{job.kind} {job.title}, {job.progress:.0%}" for _, job in store.jobs() if job.state == "running"]
    if len(lines) > MOST:
        lines[MOST - 1 :] = [f"and {len(lines) - MOST + 1} more"]
    return lines


def _line(text: str) -> Content:
    return Content(f"  {G.dot} {clean(text)}")
