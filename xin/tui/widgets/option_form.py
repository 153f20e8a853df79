"""The options of an engine as fields, made from its own schema; the context as a slider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from xin.protocol.node import OptionSpec
from xin.tui.glyphs import G
from xin.tui.launch_choice import contexts
from xin.tui.text import clean
from xin.tui.widgets.bars import progress_bar

LABEL = 18
SLIDER = "context_length"


@dataclass
class OptionsChanged(Message):
    """A value is another one."""


class ContextSlider(Widget, can_focus=True):
    """Left and right go through the usual lengths, up to what fits. None = the engine's default."""

    HELP = "Left and right: how many tokens of context the model gets. Home: what the engine takes by itself."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "less", id="context.less", show=False, tooltip="Less context"),
        Binding("right", "step(1)", "more", id="context.more", show=False, tooltip="More context"),
        Binding("home", "default", "default", id="context.default", show=False, tooltip="The engine's default"),
    ]
    DEFAULT_CSS = """
    ContextSlider { height: 1; width: 1fr; }
    ContextSlider:focus { background: $foreground 15%; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.value: int | None = None
        self.longest = 0

    def set_longest(self, longest: int) -> None:
        self.longest = longest
        self.refresh()

    def action_step(self, by: int) -> None:
        steps = contexts(self.longest)
        if self.value is None:
            index = len(steps) - 1 if by < 0 or self.longest else min(4, len(steps) - 1)
        else:
            near = min(range(len(steps)), key=lambda i: abs(steps[i] - (self.value or 0)))
            index = min(max(near + by, 0), len(steps) - 1)
        self._set(steps[index])

    def action_default(self) -> None:
        self._set(None)

    def render(self) -> Content:
        longest = self.longest or contexts(0)[-1]
        words = "default" if self.value is None else f"{self.value:,}"
        limit = f" of {self.longest:,}" if self.longest else ""
        share = (self.value or 0) / longest if self.value else 0.0
        head = f"{'context':<{LABEL}}{G.left} {words:>9} {G.right} "
        return Content.assemble(head, progress_bar(share, max(min(self.size.width - len(head) - 20, 24), 4)), limit)

    def _set(self, value: int | None) -> None:
        if value != self.value:
            self.value = value
            self.refresh()
            self.post_message(OptionsChanged())


class Choice(Widget, can_focus=True):
    """One of some words; left and right go through them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "before", id="choice.before", show=False, tooltip="The choice before"),
        Binding("right,space", "step(1)", "next", id="choice.next", show=False, tooltip="The next choice"),
    ]
    DEFAULT_CSS = """
    Choice { height: 1; width: 1fr; }
    Choice:focus { background: $foreground 15%; }
    """

    def __init__(self, choices: Sequence[str], default: str) -> None:
        super().__init__()
        self.choices = [default, *(choice for choice in choices if choice != default)]
        self.value = default

    def action_step(self, by: int) -> None:
        self.value = self.choices[(self.choices.index(self.value) + by) % len(self.choices)]
        self.refresh()
        self.post_message(OptionsChanged())

    def render(self) -> Content:
        changed = self.value != self.choices[0]
        return Content.assemble(f"{G.left} ", (clean(self.value), "bold" if changed else ""), f" {G.right}")


class OptionForm(VerticalScroll, can_focus=False):
    """`set_specs` once the engine is known. `values` are those that differ from the defaults; `fault` what is wrong."""

    DEFAULT_CSS = """
    OptionForm { height: 1fr; }
    OptionForm > Horizontal { height: 1; }
    OptionForm .option-label { width: 18; color: $foreground-muted; }
    OptionForm Input { height: 1; border: none; padding: 0; width: 1fr; background: $boost; }
    OptionForm Input:focus { border: none; background: $foreground 15%; }
    OptionForm Input.-invalid { background: $error 30%; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.specs: list[OptionSpec] = []
        self.slider = ContextSlider()
        self._fields: dict[str, Input | Choice] = {}

    def compose(self) -> ComposeResult:
        yield self.slider
        with Horizontal():
            yield Static("name", classes="option-label", markup=False)
            yield Input(placeholder="made from the model's name", id="option-uid")

    @property
    def uid(self) -> str:
        return self.query_one("#option-uid", Input).value.strip()

    async def set_specs(self, specs: Sequence[OptionSpec]) -> None:
        """Fields for these; what was entered for options of the same name stays."""
        if list(specs) == self.specs:
            return
        kept = self.values
        self.specs, self._fields = list(specs), {}
        await self.query("Horizontal.option").remove()
        rows = []
        for spec in specs:
            if spec.name != SLIDER:
                field = self._fields[spec.name] = _field(spec, kept.get(spec.name))
                label = Static(clean(spec.name), classes="option-label", markup=False)
                rows.append(Horizontal(label, field, classes="option"))
        await self.mount_all(rows)

    @property
    def values(self) -> dict[str, Any]:
        """As a launch takes them; what cannot be read is left out (see `fault`)."""
        found: dict[str, Any] = {}
        if self.slider.value is not None and self._knows(SLIDER):
            found[SLIDER] = self.slider.value
        for spec in self.specs:
            field = self._fields.get(spec.name)
            text = field.value if field is not None else ""
            if text and text != _shown(spec.default) and _fault(spec, text) is None:
                found[spec.name] = _read(spec, text)
        return found

    @property
    def fault(self) -> str | None:
        """The first field that cannot be read, and why."""
        for spec in self.specs:
            field = self._fields.get(spec.name)
            fault = _fault(spec, field.value) if isinstance(field, Input) and field.value else None
            if fault:
                return f"{spec.name}: {fault}"
        return None

    def description_of(self, widget: Widget | None) -> str:
        """What is to be said of the field that has the focus."""
        if widget is self.slider:
            return next((spec.description for spec in self.specs if spec.name == SLIDER), "tokens of context")
        for spec in self.specs:
            if widget is self._fields.get(spec.name):
                limits = _limits(spec)
                return "; ".join(part for part in (spec.description, limits) if part)
        return ""

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        spec = next((spec for spec in self.specs if self._fields.get(spec.name) is event.input), None)
        event.input.set_class(
            spec is not None and bool(event.value) and _fault(spec, event.value) is not None, "-invalid"
        )
        self.post_message(OptionsChanged())

    def _knows(self, name: str) -> bool:
        return any(spec.name == name for spec in self.specs)


def _field(spec: OptionSpec, value: Any) -> Input | Choice:
    text = "" if value is None else _shown(value)
    if spec.type in ("boolean", "choice"):
        choice = Choice(["true", "false"] if spec.type == "boolean" else spec.choices, _shown(spec.default))
        if text in choice.choices:
            choice.value = text
        return choice
    default = _shown(spec.default)
    return Input(value=text, placeholder=f"{default} (default)" if default else "default", restrict=r".{0,2000}")


def _shown(value: Any) -> str:
    if value is None or value == []:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _read(spec: OptionSpec, text: str) -> Any:
    """Raises ValueError."""
    match spec.type:
        case "integer":
            return int(text.replace("_", "").replace(",", ""))
        case "number":
            return float(text)
        case "boolean":
            return text == "true"
        case "list":
            return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _fault(spec: OptionSpec, text: str) -> str | None:
    try:
        value = _read(spec, text)
    except ValueError:
        return f"{text!r} is no {spec.type}"
    if spec.type in ("integer", "number") and (
        (spec.minimum is not None and value < spec.minimum) or (spec.maximum is not None and value > spec.maximum)
    ):
        return f"{text} is out of range: {_limits(spec)}"
    return None


def _limits(spec: OptionSpec) -> str:
    if spec.minimum is None and spec.maximum is None:
        return ""
    least = "" if spec.minimum is None else f"{spec.minimum:g}"
    return f"{least} to {spec.maximum:g}" if spec.maximum is not None else f"at least {least}"
