"""Which running model: type to search, arrows to choose."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input

from xin.tui.dialogs.typing import TypingDialog
from xin.tui.glyphs import G
from xin.tui.store import Store, Target
from xin.tui.text import clean, fit
from xin.tui.widgets.row_list import Row, RowList


class ModelChoice(TypingDialog[Target]):
    """A model that would answer now; None when the person thinks better of it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "up", id="model_choice.up", show=False, priority=True, tooltip="Model above"),
        Binding("down", "move(1)", "down", id="model_choice.down", show=False, priority=True, tooltip="Model below"),
    ]
    DEFAULT_CSS = """
    ModelChoice RowList { height: 10; }
    ModelChoice.-short RowList { height: 7; }
    """

    def __init__(self, title: str) -> None:
        super().__init__(title, command="xin list", keys=f"{G.enter} choose   {G.up}{G.down} move   esc back")
        self._by_key: dict[str, Target] = {}

    def body(self) -> ComposeResult:
        yield Input(placeholder="search", id="model-search")
        yield RowList(id="models")

    def on_mount(self) -> None:
        self._list("")

    @on(Input.Changed)
    def _on_changed(self, event: Input.Changed) -> None:
        self._list(event.value)

    @on(Input.Submitted)
    @on(RowList.Chosen)
    def _on_chosen(self) -> None:
        if target := self._by_key.get(self.query_one(RowList).key):
            self.dismiss(target)

    def action_move(self, step: int) -> None:
        self.query_one(RowList).action_move(step)

    def _list(self, query: str) -> None:
        store = self.workbench.store
        words = query.casefold().split()
        found = [one for one in store.targets() if all(word in _text(store, one).casefold() for word in words)]
        self._by_key = {f"{one.node_id}/{one.uid}": one for one in found}
        rows = [Row(key, _line(store, one)) for key, one in self._by_key.items()]
        if not rows:
            rows = [Row("", Content.styled(_nothing(bool(words)), "$foreground-muted"), selectable=False)]
        self.query_one(RowList).set_rows(rows)


def node_name(store: Store, node_id: str) -> str:
    view = store.node(node_id)
    return clean(view.name or node_id[:8]) if view else clean(node_id[:8])


def _text(store: Store, target: Target) -> str:
    return f"{target.uid} {node_name(store, target.node_id)}"


def _line(store: Store, target: Target) -> Content:
    instance = store.instance(target)
    about = ""
    if instance is not None:
        quantization = "" if instance.quantization == "none" else clean(instance.quantization)
        window = f"{instance.context_length // 1024}k ctx" if instance.context_length >= 1024 else ""
        about = f"{quantization}  {window}"
    return Content.assemble(
        (f"{G.ready} ", "$success"),
        fit(clean(target.uid), 30),
        f" @{fit(node_name(store, target.node_id), 14)} ",
        (about.strip(), "$foreground-muted"),
    )


def _nothing(searched: bool) -> str:
    return "no running model is called that" if searched else "no model is running: l on the Bench launches one"
