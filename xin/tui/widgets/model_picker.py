"""Which model to launch: a search over what is here and the whole catalogue, a list, and what is known of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from xin.tui.glyphs import G
from xin.tui.launch_models import ModelGroup, search
from xin.tui.text import clean, fit
from xin.tui.widgets.row_list import Row, RowList


class SearchBox(Input):
    """Up and down move in the list below while one types."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "screen.pick(-1)", "up", id="launch.up", show=False, tooltip="The model above"),
        Binding("down", "screen.pick(1)", "down", id="launch.down", show=False, tooltip="The model below"),
    ]


class ModelPicker(Vertical):
    """`show` groups; `group` is the one under the cursor."""

    @dataclass
    class Picked(Message):
        """The cursor is on another model, or on none."""

        picker: ModelPicker

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._groups: list[ModelGroup] = []
        self._shown: dict[str, ModelGroup] = {}

    def compose(self) -> ComposeResult:
        yield SearchBox(placeholder="search: name, ability, language", id="launch-search")
        yield RowList(id="launch-list")
        yield Static("", id="launch-about", markup=False)

    @property
    def search_box(self) -> SearchBox:
        return self.query_one(SearchBox)

    @property
    def models(self) -> RowList:
        return self.query_one(RowList)

    @property
    def group(self) -> ModelGroup | None:
        return self._shown.get(self.models.key)

    @property
    def shown(self) -> list[ModelGroup]:
        """Those with the words of the search, in the list's order."""
        return list(self._shown.values())

    @property
    def misses(self) -> bool:
        """Are there models, but none with the words of the search?"""
        return bool(self._groups) and not self._shown

    def show(self, groups: Sequence[ModelGroup]) -> None:
        self._groups = list(groups)
        self._list()

    @on(Input.Changed, "#launch-search")
    def _searched(self) -> None:
        self._list()
        self.models.action_edge(last=False)

    def _list(self) -> None:
        shown = search(self._groups, self.search_box.value)
        self._shown = {group.key: group for group in shown}
        self.models.set_rows([Row(group.key, self._line(group)) for group in shown])
        if self.misses:
            self.post_message(self.Picked(self))

    def _line(self, group: ModelGroup) -> Content:
        """Name, size, and whether it is here."""
        where = "recent" if group.age is not None else "here" if group.here else "fetch"
        mark = G.done if group.here else G.none
        tail = f" {group.billions:>5} {mark} {where:<6}"
        name = fit(clean(group.title), max(self.models.room - len(tail), 8))
        return Content.assemble((name, "bold" if group.here else ""), (tail, "$foreground-muted"))

    @on(RowList.Resized)
    def _resized(self) -> None:
        self._list()

    @on(RowList.Moved)
    def _moved(self) -> None:
        self.query_one("#launch-about", Static).update(Content(clean(about(self.group))))
        self.post_message(self.Picked(self))


def about(group: ModelGroup | None) -> str:
    """What one wants to know before launching it."""
    if group is None:
        return ""
    count = len(group.here)
    facts = [
        group.description.rstrip("."),
        ", ".join(group.abilities),
        f"context up to {group.context_length:,}" if group.context_length else "",
        f"{count} on disk" if count else f"to fetch: {len(group.quantizations)} quantizations",
        *group.notes[:1],
    ]
    return "; ".join(fact for fact in facts if fact)
