"""The sessions: search as you type, open, rename, branch, delete."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Callable
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, Static

from xin.errors import XinError
from xin.sessions.records import SessionSummary
from xin.tui.dialogs.export import ExportDialog
from xin.tui.dialogs.typing import OneLine, TypingDialog
from xin.tui.glyphs import G
from xin.tui.text import ago, clean, fit
from xin.tui.widgets.row_list import Row, RowList

LIMIT = 200
TYPING_SECONDS = 0.08


class SessionPicker(TypingDialog[int]):
    """The id of the session to open; None when the person thinks better of it. `current` is the one that is open."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "up", id="sessions.up", show=False, priority=True, tooltip="Session above"),
        Binding("down", "move(1)", "down", id="sessions.down", show=False, priority=True, tooltip="Session below"),
        Binding("pageup", "page(-1)", "page up", id="sessions.page_up", show=False, priority=True, tooltip="A page up"),
        Binding(
            "pagedown",
            "page(1)",
            "page down",
            id="sessions.page_down",
            show=False,
            priority=True,
            tooltip="A page down",
        ),
        Binding("alt+r", "rename", "rename", id="sessions.rename", priority=True, tooltip="Give it another title"),
        Binding("alt+v", "branch", "branch", id="sessions.branch", priority=True, tooltip="Open a copy of it"),
        Binding("alt+x", "delete", "delete", id="sessions.delete", priority=True, tooltip="Delete it for good"),
        Binding("f8", "export", "export", id="sessions.export", priority=True, tooltip="Write it to a file"),
    ]
    DEFAULT_CSS = """
    SessionPicker > #dialog { width: 100; }
    SessionPicker RowList { height: 16; margin: 1 0 0 0; }
    SessionPicker.-short RowList { height: 11; }
    SessionPicker #session-about { height: 2; color: $text-muted; }
    """

    def __init__(self, current: int | None = None, query: str = "") -> None:
        keys = f"{G.enter} open   alt+r rename   alt+v branch   alt+x delete   F8 export   esc"
        super().__init__("Sessions", command="xin sessions list", keys=keys)
        self._current = current
        self._query = query
        self._listed: dict[str, SessionSummary] = {}
        self._listed_for: str | None = None
        self._open_found = False

    def body(self) -> ComposeResult:
        yield Input(self._query, placeholder="search in all that was said", id="session-search")
        yield RowList(id="sessions")
        yield Static("", id="session-about", markup=False)

    def on_mount(self) -> None:
        self._search()

    @property
    def chosen(self) -> SessionSummary | None:
        """The session under the cursor."""
        return self._listed.get(self.query_one(RowList).key)

    # ---- keys

    def action_move(self, step: int) -> None:
        self.query_one(RowList).action_move(step)

    def action_page(self, direction: int) -> None:
        self.query_one(RowList).action_page(direction)

    @on(Input.Submitted)
    @on(RowList.Chosen)
    def _on_chosen(self) -> None:
        """Who types fast and presses enter means what will be found."""
        self._open_found = self._listed_for != self.query_one("#session-search", Input).value
        if self.chosen is not None and not self._open_found:
            self.dismiss(self.chosen.id)

    @work(exclusive=True, group="action")
    async def action_rename(self) -> None:
        one = self.chosen
        if one is None:
            return
        command = f"xin sessions rename {one.id} TITLE"
        title = await self.app.push_screen_wait(OneLine("Rename", clean(one.title), command=command, verb="rename"))
        if title and await self._try(self.workbench.sessions.rename, one.id, title):
            self._search()

    @work(exclusive=True, group="action")
    async def action_branch(self) -> None:
        if self.chosen is not None:
            copies: list[int] = []
            id = self.chosen.id
            if await self._try(lambda: copies.append(self.workbench.sessions.branch(id))):
                self.dismiss(copies[0])

    @work(exclusive=True, group="action")
    async def action_delete(self) -> None:
        one = self.chosen
        if one is None:
            return
        if one.id == self._current:
            self.workbench.say("this session is open; /clear begins another", severity="warning")
            return
        title = fit(clean(one.title), 40).strip()
        question = f"Delete «{title}» with {_turns(one.turns)} for good?"
        if not await self.workbench.ask(question, command=f"xin sessions delete {one.id}", danger=True):
            return
        if await self._try(self.workbench.sessions.delete, one.id):
            self._search()

    def action_export(self) -> None:
        if self.chosen is not None:
            self.app.push_screen(ExportDialog(self.chosen.id, self.chosen.title))

    # ---- news

    @on(Input.Changed)
    def _search(self) -> None:
        self._look(self.query_one("#session-search", Input).value)

    @on(RowList.Moved)
    def _on_moved(self) -> None:
        one = self.chosen
        about = Content("")
        if one is not None:
            facts = f"{_turns(one.turns)} · {', '.join(clean(model) for model in one.models) or 'no model'}"
            about = Content(f"{facts}\n{clean(one.snippet)}")
        self.query_one("#session-about", Static).update(about)
        query = self.query_one("#session-search", Input).value.strip()
        search = f"xin sessions search {shlex.quote(query)}" if query else "xin sessions list"
        self.command = f"xin sessions show {one.id}" if one is not None else search

    # ---- parts

    @work(exclusive=True, group="search")
    async def _look(self, query: str) -> None:
        """One search at a time, and none while letters still come."""
        await asyncio.sleep(TYPING_SECONDS if self._listed else 0)
        try:
            found = await asyncio.to_thread(self.workbench.sessions.sessions, query, LIMIT)
        except XinError as exc:
            self.workbench.say(exc.message, severity="error")
            return
        if not self.query(RowList):
            return  # closed meanwhile
        self._draw(found, query)
        if self._open_found:
            self._on_chosen()

    def _draw(self, found: list[SessionSummary], query: str) -> None:
        self._listed, self._listed_for = {str(one.id): one for one in found}, query
        rows = [Row(key, self._line(one), marked=one.id == self._current) for key, one in self._listed.items()]
        if not rows:
            words = "nothing was found" if query.strip() else "no sessions yet: what you ask is kept here"
            rows = [Row("", Content.styled(words, "$foreground-muted"), selectable=False)]
        self.query_one(RowList).set_rows(rows)
        self._on_moved()

    def _line(self, one: SessionSummary) -> Content:
        room = max(self.query_one(RowList).room - 24, 10)
        return Content.assemble(
            fit(clean(one.title) or "untitled", room),
            (f" {ago(time.time() - one.updated_at):>4} ago", "$foreground-muted"),
            (f" {_turns(one.turns):>9}", "$foreground-muted"),
        )

    async def _try(self, call: Callable[..., object], *arguments: object) -> bool:
        """Whether it could be done; else the cause is said."""
        try:
            await asyncio.to_thread(call, *arguments)
        except XinError as exc:
            self.workbench.say(exc.message, severity="error")
            return False
        return True


def _turns(count: int) -> str:
    return f"{count} turn" if count == 1 else f"{count} turns"
