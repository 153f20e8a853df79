"""ctrl+t: the system prompt and sampling of one pane, or of all."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Label, Static, TextArea

from xin.errors import UsageError
from xin.sessions.records import PaneRecord
from xin.tui.chat import sampling
from xin.tui.dialogs.typing import TypingDialog
from xin.tui.glyphs import G
from xin.tui.text import clean, plain

_OF_XIN_RUN = {"temperature": "--temperature", "top_p": "--top-p", "max_tokens": "--max-tokens", "seed": "--seed"}


class ParamsDialog(TypingDialog[list[PaneRecord]]):
    """The panes with their settings as they shall be. None changes nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "apply", "apply", id="params.apply", priority=True, tooltip="Use these settings"),
        Binding("alt+a", "scope", "this/all", id="params.scope", priority=True, tooltip="For this pane, or for all"),
        Binding("ctrl+r", "reset", "reset", id="params.reset", priority=True, tooltip="Everything back to the model's"),
    ]
    DEFAULT_CSS = """
    ParamsDialog > #dialog { width: 78; }
    ParamsDialog #params-system { height: 5; border: none; background: $foreground 8%; padding: 0 1; }
    ParamsDialog.-tall #params-system { height: 8; }
    ParamsDialog #params-fields { height: auto; }
    ParamsDialog Grid { grid-size: 2; grid-columns: 1fr 1fr; grid-gutter: 0 2; height: auto; margin: 1 0 0 0; }
    ParamsDialog .param { height: 1; }
    ParamsDialog .param Label { width: 18; }
    ParamsDialog .param Input { width: 1fr; background: $foreground 8%; }
    ParamsDialog .param Input:focus { background: $primary 30%; }
    ParamsDialog .param Input.-bad { background: $error 30%; }
    ParamsDialog #params-help { height: 2; color: $text-muted; margin: 1 0 0 0; }
    ParamsDialog #params-help.-bad { color: $text-error; }
    """

    def __init__(self, panes: Iterable[PaneRecord], current: int = 0, *, everyone: bool = False) -> None:
        """`current`: place of the pane whose settings are shown; `everyone`: they are to be for all panes."""
        super().__init__("Settings", keys="ctrl+s apply   alt+a this/all   ctrl+r reset   tab next   esc back")
        self._panes = list(panes)
        self._current = current
        self._everyone = everyone
        self._faults: dict[str, str] = {}

    @property
    def _pane(self) -> PaneRecord:
        return self._panes[self._current]

    def body(self) -> ComposeResult:
        yield Static("", id="params-scope", markup=False)
        with VerticalScroll(id="params-fields", can_focus=False):
            yield TextArea(
                plain(self._pane.system),
                id="params-system",
                compact=True,
                highlight_cursor_line=False,
                placeholder="system prompt",
            )
            with Grid():
                for field in sampling.FIELDS:
                    with Horizontal(classes="param"):
                        yield Label(field.name, markup=False)
                        value = sampling.shown(self._pane.sampling.get(field.name))
                        yield Input(value, id=f"param-{field.name}", compact=True, select_on_focus=False)
        yield Static("", id="params-help", markup=False)

    def on_mount(self) -> None:
        self._draw_scope()
        self._changed()

    # ---- keys

    def action_apply(self) -> None:
        values = self._read()
        if self._faults:
            self.query_one(f"#param-{next(iter(self._faults))}", Input).focus()
            self._help()
            return
        system = self.query_one(TextArea).text
        self.dismiss([self._with(pane, place, system, values) for place, pane in enumerate(self._panes)])

    def action_scope(self) -> None:
        self._everyone = not self._everyone and len(self._panes) > 1
        self._draw_scope()

    def action_reset(self) -> None:
        self.query_one(TextArea).load_text("")
        for box in self.query(Input):
            box.value = ""

    # ---- news

    @on(Input.Submitted)
    def _on_submitted(self) -> None:
        self.action_apply()

    @on(Input.Changed)
    @on(TextArea.Changed)
    def _changed(self) -> None:
        values = self._read()
        self.command = _command(self._pane.model_uid, self.query_one(TextArea).text, values)
        for box in self.query(Input):
            box.set_class(_name(box) in self._faults, "-bad")
        self._help()

    def on_descendant_focus(self) -> None:
        self._help()

    # ---- parts

    def _with(self, pane: PaneRecord, place: int, system: str, values: dict[str, Any]) -> PaneRecord:
        """Settings that the dialog does not show are left alone."""
        if not self._everyone and place != self._current:
            return pane
        others = {name: value for name, value in pane.sampling.items() if name not in sampling.BY_NAME}
        return msgspec.structs.replace(pane, system=system, sampling={**others, **values})

    def _read(self) -> dict[str, Any]:
        """The values that are set; what cannot be read is in `_faults`, by field."""
        values: dict[str, Any] = {}
        self._faults = {}
        for box in self.query(Input):
            name = _name(box)
            try:
                value = sampling.BY_NAME[name].parse(box.value)
            except UsageError as exc:
                self._faults[name] = exc.message
            else:
                if value is not None:
                    values[name] = value
        return values

    def _help(self) -> None:
        """What is wrong, first with the field under the cursor; else what that field means."""
        name = _name(self.focused) if isinstance(self.focused, Input) else ""
        fault = self._faults.get(name) or next(iter(self._faults.values()), "")
        line = self.query_one("#params-help", Static)
        line.set_class(bool(fault), "-bad")
        field = sampling.BY_NAME.get(name)
        about = f"{field.name}: {field.range}. {field.help}; empty = the model's own" if field else ""
        line.update(f"{G.fail} {clean(fault)}" if fault else about)

    def _draw_scope(self) -> None:
        pane = f"pane {self._current + 1}, {clean(self._pane.model_uid)}"
        words = f"for ALL {len(self._panes)} panes" if self._everyone else f"for {pane}"
        self.query_one("#params-scope", Static).update(Content.styled(words, "bold"))


def _name(box: object) -> str:
    return (getattr(box, "id", "") or "").removeprefix("param-")


def _command(uid: str, system: str, values: dict[str, Any]) -> str:
    """What `xin run` knows of these settings."""
    words = ["xin run", shlex.quote(uid)]
    if system.strip():
        words += ["--system", shlex.quote(system if len(system) <= 60 else f"{system[:60]}…")]
    words += [f"{flag} {sampling.shown(values[name])}" for name, flag in _OF_XIN_RUN.items() if name in values]
    return " ".join(words)
