"""One pane of a chat: whom it talks to in its border, what was said, the answer on its way, its figures below."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message as Event
from textual.widgets import Static

from xin.protocol.node import Instance
from xin.tui.chat.talk import Figures, Talk
from xin.tui.glyphs import G, is_ascii
from xin.tui.store import NodeView
from xin.tui.text import clean, fit
from xin.tui.widgets.answer_markdown import ASCII, UNICODE
from xin.tui.widgets.message import Shown
from xin.tui.widgets.titles import set_title
from xin.tui.widgets.transcript import Transcript

FIGURES_SECONDS = 0.5  # between two changes of the border, which repaint the pane
PROMPT_KEYS = "ctrl+g retry   F2 other model   alt+l log"
PANE_KEYS = "r retry   m other model   L log"
_STATES = {
    "ready": ("ready", "$text-success"),
    "gone": ("node gone", "$text-error"),
    "missing": ("not running", "$text-error"),
    "failed": ("failed", "$text-error"),
}


class Pane(Vertical):
    """Draws a `Talk`. The screen tells it when something has come (`flush`) and what its model's state is."""

    @dataclass
    class Chosen(Event):
        pane: Pane

    def __init__(self, talk: Talk, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.talk = talk
        self.number = 1
        self.name_hidden = ""  # the letter while a vote is blind
        self.node: NodeView | None = None
        self.instance: Instance | None = None
        marks = ASCII if is_ascii() else UNICODE
        self._shown = Shown(marks=marks, stop_mark=G.stop, fail_mark=G.fail, model=talk.model, keys=PROMPT_KEYS)
        self.transcript = Transcript(talk.conversation, self._shown)
        self._status = Static("", classes="status", markup=False)
        self._last_status = Content("")
        self._drawn_at = 0.0

    def compose(self) -> ComposeResult:
        yield self.transcript
        yield self._status

    def on_mount(self) -> None:
        self.draw()

    @property
    def sees(self) -> bool:
        """Whether its model takes images."""
        return self.instance is not None and "vision" in self.instance.model_ability

    # ---- what it shows

    @property
    def title(self) -> str:
        """The model's name, or its letter while that is hidden."""
        return self.name_hidden or clean(self.talk.model)

    def hide_name(self, letter: str) -> None:
        """Show a letter for the model's name; "" shows the name again."""
        self.name_hidden = letter
        self.draw()

    def show_talk(self) -> None:
        """The conversation has been replaced, or a branch chosen."""
        self._shown.model = self.talk.model
        if self.transcript.conversation is not self.talk.conversation:
            self.transcript.show(self.talk.conversation)
        else:
            self.transcript.update()
        self.draw()

    def asked(self) -> None:
        """A turn has begun: show its end."""
        self.show_talk()
        self.transcript.set_cursor(None)
        self.transcript.to_end()

    def flush(self) -> bool:
        """Draw what has come; True while an answer is on its way."""
        answer = self.talk.answer
        if self.talk.drain() and answer is not None:
            self.transcript.grow(answer)
        if not self.talk.streaming or time.monotonic() - self._drawn_at > FIGURES_SECONDS:
            self.draw()
        return self.talk.streaming

    def draw(self) -> None:
        """Border and status line; cheap when nothing has changed."""
        self._drawn_at = time.monotonic()
        width = self.outer_size.width or 40
        state, word, style = self._state()
        name = f"{self.number} {self.title}"
        node = f" @{clean(self.node.name)}" if self.node is not None and not self.name_hidden else ""
        room = max(width - 6 - len(state) - 1, 4)
        whole = f"{name}{node}" if len(name + node) <= room else name
        set_title(self, f"{fit(whole, room).rstrip()} {state}", self._figures(width))
        status = Content.assemble((f" {state} {word}", style))
        if not status.is_same(self._last_status):
            self._last_status = status
            self._status.update(status)

    def _state(self) -> tuple[str, str, str]:
        """(glyph, word, style) of the answer on its way, else of the last one, else of the model."""
        if self.talk.streaming:
            answer = self.talk.answer
            thinking = answer is not None and answer.reasoning and not answer.text
            begun = answer is not None and (answer.text or answer.reasoning)
            word = "thinking" if thinking else "streaming" if begun else "waiting for the first token"
            return G.run, word, "$text-accent"
        if self.instance is None or (self.node is not None and self.node.status == "gone"):
            word, style = _STATES["missing" if self.instance is None else "gone"]
            return G.gone, word, style
        if self.instance.state != "ready":
            word, style = _STATES.get(self.instance.state, (self.instance.state, "$text-warning"))
            return G.fail if self.instance.state == "failed" else G.slow, word, style
        return self._last_end()

    def _last_end(self) -> tuple[str, str, str]:
        leaf = self.talk.conversation.leaf
        if leaf is None or leaf.role == "user":
            return G.ready, "ready", "$text-success"
        if leaf.state == "failed":
            return G.fail, "failed", "$text-error"
        if leaf.state == "stopped":
            return G.stop, "stopped", "$text-warning"
        return G.done, "cut at the limit" if leaf.finish_reason == "length" else "done", "$text-success"

    def _figures(self, width: int) -> str:
        """What is still moving is marked: … waits, ≈ is counted here and not by the node."""
        if self.name_hidden:
            return ""  # speed would tell who is who
        figures = self.talk.figures()
        context = self.instance.context_length if self.instance is not None else 0
        return figures_line(figures, context, narrow=width < 48)

    # ---- keys and clicks

    def set_current(self, current: bool, *, in_prompt: bool) -> None:
        self.set_class(current, "-current")
        keys = PROMPT_KEYS if in_prompt or not current else PANE_KEYS
        if keys != self._shown.keys:
            self._shown.keys = keys
            leaf = self.talk.conversation.leaf
            if leaf is not None and leaf.state == "failed" and self.transcript.is_mounted:
                self.transcript.grow(leaf)

    def on_resize(self) -> None:
        self.draw()

    def on_descendant_focus(self) -> None:
        self.post_message(self.Chosen(self))

    def on_click(self, event: events.Click) -> None:
        self.post_message(self.Chosen(self))


def blind_words(panes: Sequence[Pane]) -> str:
    """Who of them takes no images; "" when all do."""
    names = [pane.title for pane in panes if not pane.sees]
    return f"{', '.join(names)} {'take' if len(names) > 1 else 'takes'} no images" if names else ""


def figures_line(figures: Figures, context_length: int, *, narrow: bool) -> str:
    """`84ms · 61 t/s · 128 tok · ctx 2%`; live figures differ in signs, not only in colour."""
    if figures.tokens == 0 and not figures.live and figures.ttft_ms is None:
        return f"ctx {context_length:,}" if context_length else ""
    about = "" if figures.exact else "~" if is_ascii() else "≈"
    ttft = seconds_short(figures.ttft_ms) if figures.ttft_ms is not None else G.none
    if figures.live and figures.ttft_ms is None:
        ttft = f"{seconds_short(figures.waited_ms)}{G.ellipsis}"
    gap = "" if narrow else " "
    rate = figures.tokens_per_second
    speed = f"{about}{rate:.0f}{gap}t/s" if rate is not None else G.none
    parts = [ttft, speed, f"{about}{figures.tokens}{gap}tok"]
    if context_length:
        percent = 100 * figures.context_tokens / context_length
        share = f"{percent:.0f}%" if percent >= 1 or not figures.context_tokens else "<1%"
        parts.append(f"ctx{gap}{about}{share}")
    return (" " if narrow else f" {G.middle} ").join(parts)


def seconds_short(milliseconds: float) -> str:
    return f"{milliseconds:.0f}ms" if milliseconds < 1000 else f"{milliseconds / 1e3:.1f}s"
