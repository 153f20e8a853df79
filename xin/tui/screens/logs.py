"""The Logs: what all models of all nodes say, merged by time."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Input, Static

from xin import paths
from xin.errors import UsageError
from xin.tui.chat import external
from xin.tui.log_book import LEVELS, Line, LogBook, compile_pattern
from xin.tui.log_streams import LogStreams
from xin.tui.model_actions import ModelActions
from xin.tui.screens.place import Place
from xin.tui.store import Target
from xin.tui.text import clean
from xin.tui.widgets.log_sources import LogSources
from xin.tui.widgets.log_view import TIMES, LogView, clock, plain
from xin.tui.widgets.row_list import RowList
from xin.tui.widgets.titles import set_title

DRAW_SECONDS = 0.1
_HINTS = "r restart   y copy line   Y copy all shown   o pager"


class LogsScreen(Place):
    """Lines are collected from when the place is first shown, also while another is."""

    PLACE = "logs"
    CSS_PATH = "logs.tcss"
    HELP = (
        "What every model says, by time. `&` hides all lines without a regular expression, `/` finds one. "
        "Space in the sources shows and hides them."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", "follow", id="logs.follow", tooltip="Stay at the newest line, or stop there"),
        Binding("slash", "input('find')", "find", id="logs.find", tooltip="Find a regular expression"),
        Binding("ampersand", "input('filter')", "filter", id="logs.filter", tooltip="Hide lines without an expression"),
        Binding("v", "level", "level", id="logs.level", tooltip="The lowest level that is shown"),
        Binding("t", "times", "time", id="logs.times", show=False, tooltip="How the time is written"),
        Binding("w", "wrap", "wrap", id="logs.wrap", tooltip="Break long lines, or cut them"),
        Binding("n", "match(1)", "next", id="logs.next", show=False, tooltip="Next line that was searched for"),
        Binding("N", "match(-1)", "previous", id="logs.previous", show=False, tooltip="The one before"),
        Binding("e", "error(1)", "error", id="logs.error", tooltip="Next error"),
        Binding("E", "error(-1)", "previous error", id="logs.previous_error", show=False, tooltip="Error before"),
        Binding("enter", "open", "open", id="logs.open", show=False, tooltip="Open or fold a traceback"),
        Binding("s", "save", "save", id="logs.save", tooltip="Write what is shown to a file"),
        Binding("y", "copy", "copy", id="logs.copy", tooltip="Copy the line"),
        Binding("Y", "copy_all", "copy all", id="logs.copy_all", show=False, tooltip="Copy all lines shown"),
        Binding("o", "pager", "pager", id="logs.pager", show=False, tooltip="Read what is shown in $PAGER"),
        Binding("r", "restart", "restart", id="logs.restart", show=False, tooltip="Launch the line's model again"),
        Binding("f2", "sources", "sources", id="logs.sources", tooltip="Show the list of sources, or go to it"),
        Binding("escape", "escape", "clear", id="logs.clear", show=False, tooltip="Clear search, filter and sources"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.book = LogBook()
        self._streams: LogStreams | None = None
        self._timer: Timer | None = None
        self._asked = "filter"

    # ---- layout

    def body(self) -> ComposeResult:
        with Horizontal(id="logs-body"):
            yield LogSources(id="sources")
            with Vertical(id="log-box"):
                yield LogView(self.book, id="log")
                yield Input(id="log-input")
        with VerticalScroll(id="cause-box", can_focus=False):
            yield Static("", id="cause-text", markup=False)

    def on_mount(self) -> None:
        self.view.focus()
        set_title(self.query_one("#sources"), "Sources", "space toggle")
        self._streams = LogStreams(self.workbench.store, self.workbench.client, self._arrived)
        self._streams.follow_all()
        self._tell()

    @on(events.Unmount)
    async def _leave(self) -> None:
        if self._streams is not None:
            await self._streams.close()

    @property
    def view(self) -> LogView:
        return self.query_one(LogView)

    @property
    def source_list(self) -> LogSources:
        return self.query_one(LogSources)

    @property
    def prompt(self) -> Input:
        return self.query_one("#log-input", Input)

    # ---- news

    def store_changed(self, topics: frozenset[str]) -> None:
        if topics & {"nodes", "instances", "link"} and self._streams is not None:
            self._streams.follow_all()
            self._list_sources()
            self._tell_cause()

    def open_source(self, node_id: str, uid: str) -> None:
        """Show the lines of one model alone, from the newest."""
        self.book.sources = frozenset({Target(node_id, uid)})
        self._refilter()
        self.view.follow(True)
        self.view.focus()

    def _arrived(self) -> None:
        if self._timer is None:
            self._timer = self.set_timer(DRAW_SECONDS, self._take)

    def _take(self) -> None:
        self._timer = None
        if self._streams is not None:
            self.book.add(self._streams.take())
            self._draw_lines()

    def _draw_lines(self) -> None:
        self.view.sync()
        self._list_sources()
        self._tell()

    def _list_sources(self) -> None:
        self.source_list.show(self.workbench.store, self.book)

    @on(RowList.Resized)
    def _resized(self) -> None:
        self._list_sources()

    @on(LogView.Moved)
    def _moved(self) -> None:
        self._tell()

    # ---- what is told

    def _tell(self) -> None:
        book, view = self.book, self.view
        level = {"debug": "all", "warning": "WARN"}.get(book.level, book.level.upper())
        facts = [
            f"level {level}",
            f"{len(book.lines):,} line{'' if len(book.lines) == 1 else 's'}",
            f"{book.rate(time.time()):.0f}/s",
        ]
        self.header.facts = "   ".join([*facts, f"follow {'ON' if view.following else 'off'}"])
        title = "all" if book.sources is None else ", ".join(sorted(target.uid for target in book.sources)) or "none"
        if book.pattern is not None:
            title += f"   filter /{book.pattern.pattern}/"
        if len(book.shown) != len(book.lines):
            title += f"   {len(book.shown):,} of {len(book.lines):,}"
        if view.match is not None:
            title += f"   find /{view.match.pattern}/"
        set_title(self.query_one("#log-box"), clean(title), f"wrap {'on' if view.wrap else 'off'}")
        self._tell_cause()

    def _tell_cause(self) -> None:
        """The line under the cursor whole, and why its model ended if it did."""
        line = self.view.line
        box, text = self.query_one("#cause-box"), self.query_one("#cause-text", Static)
        if line is None:
            box.display = False
            return
        box.display = True
        set_title(box, f"{clock(line.at, 'millis')}{line.node} {line.target.uid} {line.level.upper()}", _HINTS)
        text.update(self._cause(line))

    def _cause(self, line: Line) -> Content:
        instance = self.workbench.store.instance(line.target)
        parts: list[Content | tuple[str, str] | str] = [(line.message, "$error" if line.level == "error" else "")]
        if instance is not None and instance.cause:
            word = "failed" if instance.state == "failed" else f"{instance.state} again after"
            parts += [("\n" + f"{instance.model_uid} {word}: {clean(instance.cause)}", "$error")]
            parts += [f"\n{clean(instance.hint)}"] if instance.hint else []
        return Content.assemble(*parts)

    # ---- keys

    def action_follow(self) -> None:
        self.view.follow(not self.view.following)
        self._tell()

    def action_level(self) -> None:
        self.book.level = LEVELS[(LEVELS.index(self.book.level) + 1) % len(LEVELS)]
        self._refilter()

    def action_times(self) -> None:
        self.view.times = TIMES[(TIMES.index(self.view.times) + 1) % len(TIMES)]
        self.view.relay()

    def action_wrap(self) -> None:
        self.view.wrap = not self.view.wrap
        self.view.relay()
        self._tell()

    def action_input(self, asked: str) -> None:
        self._asked = asked
        known = self.book.pattern if asked == "filter" else self.view.match
        self.prompt.placeholder = f"{asked}: a regular expression"
        self.prompt.value = known.pattern if known is not None else ""
        self.prompt.display = True
        self.prompt.focus()

    @on(Input.Submitted, "#log-input")
    def _submitted(self, event: Input.Submitted) -> None:
        try:
            pattern = compile_pattern(event.value)
        except re.error as exc:
            self.workbench.say(clean(f"/{event.value}/ is no regular expression: {exc}"), severity="error")
            return
        self._close_prompt()
        self._use(pattern)
        if self._asked == "find" and pattern is not None:
            self.action_match(-1 if self.view.following else 1)

    @on(Input.Changed, "#log-input")
    def _changed(self, event: Input.Changed) -> None:
        """What is being typed filters or marks at once, as soon as it is an expression."""
        if not self.prompt.display:
            return
        try:
            pattern = compile_pattern(event.value)
        except re.error as exc:
            set_title(self.query_one("#log-box"), f"/{clean(event.value)}/ is no regular expression yet: {exc}")
            return
        self._use(pattern)

    def _use(self, pattern: re.Pattern[str] | None) -> None:
        if self._asked == "filter":
            self.book.pattern = pattern
            self._refilter()
        else:
            self.view.match = pattern
            self.view.refresh()
            self._tell()

    def action_match(self, step: int) -> None:
        pattern = self.view.match
        if pattern is None:
            self.action_input("find")
            return
        self._jump(self.book.find(pattern, self.view.cursor, step), f"/{pattern.pattern}/ is in no line shown")

    def action_error(self, step: int) -> None:
        self._jump(self.book.next_error(self.view.cursor, step), "no error is shown")

    def action_escape(self) -> None:
        if self.prompt.display:
            self._close_prompt()
        elif self.view.match is not None:
            self.view.match = None
            self.view.refresh()
            self._tell()
        else:
            self.book.pattern = self.book.sources = None
            self._refilter()

    def action_sources(self) -> None:
        if self.source_list.display and self.source_list.has_focus:
            self.remove_class("-sources")
            self.view.focus()
        else:
            self.add_class("-sources")
            self.call_after_refresh(self.source_list.focus)

    def action_toggle_source(self) -> None:
        target = self.source_list.target
        self.book.sources = (self.book.sources or frozenset()) ^ {target} or None if target is not None else None
        self._refilter()

    def action_only_source(self) -> None:
        target = self.source_list.target
        self.book.sources = frozenset({target}) if target is not None else None
        self._refilter()

    def action_open(self) -> None:
        self.view.toggle()

    def action_copy(self) -> None:
        if self.view.line is not None:
            self.workbench.copy(plain(self.view.line))

    def action_copy_all(self) -> None:
        self.workbench.copy("".join(f"{plain(line)}\n" for line in self.book.whole()))

    async def action_pager(self) -> None:
        try:
            await external.page(self.app, "".join(f"{plain(line)}\n" for line in self.book.whole()))
        except UsageError as exc:
            self.workbench.say(f"{exc.message}: {exc.hint}", severity="error")

    @work(group="restart", exit_on_error=False)
    async def action_restart(self) -> None:
        if self.view.line is not None:
            await ModelActions(self.workbench).restart([self.view.line.target])

    @work(thread=True, group="save", exit_on_error=False)
    def action_save(self) -> None:
        lines = self.book.whole()
        file = paths.state_dir() / "saved" / f"logs-{time.strftime('%Y%m%d-%H%M%S')}.txt"
        try:
            _write(file, lines)
        except OSError as exc:
            self.app.call_from_thread(self.workbench.say, f"cannot write {file}: {exc.strerror}", severity="error")
        else:
            self.app.call_from_thread(self.workbench.say, f"{len(lines):,} lines are in {file}")

    # ---- parts

    def _refilter(self) -> None:
        self.book.refilter()
        self.view.sync()
        self._list_sources()
        self._tell()

    def _jump(self, index: int | None, otherwise: str) -> None:
        if index is None:
            self.workbench.say(otherwise)
            return
        self.view.following = False
        self.view.go(index)
        self._tell()

    def _close_prompt(self) -> None:
        self.prompt.display = False
        self.view.focus()
        self._tell()


def _write(file: Path, lines: list[Line]) -> None:
    paths.private(file.parent)
    file.write_text("".join(f"{plain(line)}\n" for line in lines), encoding="utf-8", errors="replace")
