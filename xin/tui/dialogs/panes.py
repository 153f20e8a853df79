"""F2: the panes of the chat; add, remove, put another model in, change their order."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import ClassVar

import msgspec
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from xin.sessions.records import PaneRecord
from xin.tui.chat import sampling
from xin.tui.dialogs.dialog import Dialog
from xin.tui.dialogs.model_choice import ModelChoice, node_name
from xin.tui.glyphs import G
from xin.tui.store import Target
from xin.tui.text import clean, fit
from xin.tui.widgets.row_list import Row, RowList

MAX_PANES = 16
NEW = -1


class PanesDialog(Dialog[list[PaneRecord]]):
    """The panes as they shall be, in order; a pane that is new has the index NEW. None changes nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "apply", "apply", id="panes.apply", priority=True, tooltip="Arrange the panes like this"),
        Binding("a,insert", "add", "add", id="panes.add", tooltip="A pane more, with the settings of this one"),
        Binding("x,delete", "remove", "remove", id="panes.remove", tooltip="Close this pane"),
        Binding("m", "swap", "model", id="panes.model", tooltip="Another model in this pane"),
        Binding("K,alt+up", "shift(-1)", "earlier", id="panes.earlier", tooltip="This pane further left"),
        Binding("J,alt+down", "shift(1)", "later", id="panes.later", tooltip="This pane further right"),
    ]
    DEFAULT_CSS = """
    PanesDialog > #dialog { width: 96; }
    PanesDialog RowList { height: auto; max-height: 16; min-height: 4; }
    PanesDialog.-short RowList { max-height: 14; }
    """

    def __init__(self, panes: Iterable[PaneRecord], current: int = 0) -> None:
        """`current`: place of the pane that has the focus."""
        keys = f"{G.enter} apply   a add   x remove   m model   K/J order   esc back"
        super().__init__("Panes", keys=keys)
        self._panes = [msgspec.structs.replace(pane, sampling=dict(pane.sampling)) for pane in panes]
        self._current = current

    def body(self) -> ComposeResult:
        yield RowList(id="panes")

    def on_mount(self) -> None:
        self._draw(self._current)

    @property
    def at(self) -> int:
        """The cursor's place; -1 when there is no pane."""
        key = self.query_one(RowList).key
        return int(key) if key else -1

    def action_apply(self) -> None:
        self.dismiss(self._panes)

    @on(RowList.Chosen)
    def _on_chosen(self) -> None:
        self.action_swap()

    @work
    async def action_add(self) -> None:
        if len(self._panes) >= MAX_PANES:
            self.workbench.say(f"no more than {MAX_PANES} panes", severity="warning")
            return
        target = await self.app.push_screen_wait(ModelChoice("Add a pane with"))
        if target is not None:
            like = self._panes[self.at] if self._panes else PaneRecord()
            place = self.at + 1
            self._panes.insert(place, PaneRecord(NEW, target.uid, target.node_id, like.system, dict(like.sampling)))
            self._draw(place)

    @work
    async def action_swap(self) -> None:
        place = self.at
        if place < 0:
            return
        target = await self.app.push_screen_wait(ModelChoice(f"Model of pane {place + 1}"))
        if target is not None:
            pane = self._panes[place]
            self._panes[place] = msgspec.structs.replace(pane, model_uid=target.uid, node=target.node_id)
            self._draw(place)

    def action_remove(self) -> None:
        if self.at >= 0:
            place = self.at
            del self._panes[place]
            self._draw(min(place, len(self._panes) - 1))

    def action_shift(self, by: int) -> None:
        here, there = self.at, self.at + by
        if here >= 0 and 0 <= there < len(self._panes):
            self._panes[here], self._panes[there] = self._panes[there], self._panes[here]
            self._draw(there)

    def _draw(self, cursor: int) -> None:
        rows = [Row(str(place), self._line(place, pane)) for place, pane in enumerate(self._panes)]
        if not rows:
            rows = [Row("", Content.styled("no pane: a adds one", "$foreground-muted"), selectable=False)]
        listed = self.query_one(RowList)
        listed.set_rows(rows)
        listed.move_to(str(cursor))
        self.command = _command(self._panes)

    def _line(self, place: int, pane: PaneRecord) -> Content:
        store = self.workbench.store
        target = Target(pane.node, pane.model_uid)
        ready = target in store.targets()
        settings = " · ".join(
            part for part in ("system" if pane.system else "", sampling.summary(pane.sampling)) if part
        )
        return Content.assemble(
            f"{place + 1:>2} ",
            (f"{G.ready if ready else G.gone} ", "$success" if ready else "$foreground-muted"),
            fit(clean(pane.model_uid), 24),
            f" @{fit(node_name(store, pane.node), 10)} ",
            ("" if ready else "not running  ", "$text-warning"),
            ("new " if pane.index == NEW else "", "$accent"),
            (clean(settings), "$foreground-muted"),
        )


def _command(panes: list[PaneRecord]) -> str:
    return " ".join(["xin chat", *(shlex.quote(pane.model_uid) for pane in panes)]) if panes else ""
