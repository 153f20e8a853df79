"""What a chat does with several answers and several sessions: strip, diff, votes, going from one to another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from textual import work
from textual.app import ComposeResult

from xin.errors import XinError
from xin.tui.chat.answers import answers_of, candidates_of, last_turn
from xin.tui.chat.compare import CompareStrip
from xin.tui.chat.votes import Blind
from xin.tui.screens.chat_core import ChatCore
from xin.tui.text import clean
from xin.tui.widgets.pane import Pane


class ChatCompare(ChatCore):
    def __init__(self) -> None:
        super().__init__()
        self.strip = CompareStrip(id="strip")
        self.blind: Blind | None = None
        self._seeing: list[Pane] = []  # the order of the panes before names were hidden
        self._voted: dict[int, int | None] = {}  # the winner's pane by turn

    def body(self) -> ComposeResult:
        *above, completions, prompt = super().body()
        yield from (*above, self.strip, completions, prompt)

    def draw_strip(self) -> None:
        turn = last_turn(self.talks)
        self.strip.show(candidates_of(self.talks, turn), voted=self._voted.get(turn), blind=self.blind)

    # ---- comparing

    @work(exclusive=True, group="dialog")
    async def action_diff(self) -> None:
        from xin.tui.dialogs.word_diff import Answer, WordDiff

        found = answers_of(self.talks, last_turn(self.talks))
        titles = {pane.talk.index: f"{pane.number} {pane.title}" for pane in self.panes}
        answers = [Answer(titles[talk.index], one.text, one.completion_tokens) for talk, one in found if one.text]
        if len(answers) < 2:
            self.workbench.say("a diff takes two answers of the same turn", severity="warning")
            return
        await self.app.push_screen_wait(WordDiff(answers))

    @work(exclusive=True, group="dialog")
    async def action_vote(self) -> None:
        from xin.tui.dialogs.vote import VoteDialog

        turn = last_turn(self.talks)
        candidates = candidates_of(self.talks, turn)
        asked = next((one for talk in self.talks if (one := talk.conversation.question_of(turn)) is not None), None)
        if len(candidates) < 2 or self.session.id is None or asked is None:
            self.workbench.say("a vote takes two answers of the same turn", severity="warning")
            return
        if any(one.state == "streaming" for one in candidates):
            self.workbench.say("wait for the answers, or stop them with esc esc", severity="warning")
            return
        dialog = VoteDialog(self.session.id, turn, asked.text, candidates, self.blind)
        result = await self.app.push_screen_wait(dialog)
        if result is not None:
            self._voted[turn] = result.pane
            self.set_blind(False)

    def action_blind(self) -> None:
        self.set_blind(self.blind is None)

    def set_blind(self, blind: bool) -> None:
        """Hide the models' names and mix the panes; back to names and order."""
        if blind and len(self.panes) < 2:
            self.workbench.say("a blind vote takes two panes", severity="warning")
            return
        if blind:
            self._seeing = list(self.panes)
            self.blind = Blind([talk.index for talk in self.talks])
            order = self.blind.order
            self.pane_row.order(sorted(self.panes, key=lambda pane: order.index(pane.talk.index)))
        elif self.blind is not None:
            self.blind = None
            kept = [pane for pane in self._seeing if pane in self.panes]
            self.pane_row.order(kept + [pane for pane in self.panes if pane not in kept])
        for pane in self.panes:
            pane.hide_name(self.blind.name(pane.talk.index) if self.blind is not None else "")
        self.draw_frame()

    # ---- sessions

    @work(exclusive=True, group="dialog")
    async def action_sessions(self, query: str = "") -> None:
        from xin.tui.dialogs.session_picker import SessionPicker

        chosen = await self.app.push_screen_wait(SessionPicker(self.session.id, query))
        if chosen is not None and chosen != self.session.id:
            await self._load(chosen)

    @work(exclusive=True, group="dialog")
    async def load_session(self, id: int) -> None:
        await self._load(id)

    @work(exclusive=True, group="dialog")
    async def branch_session(self) -> None:
        if self.session.id is None:
            self.workbench.say("nothing was asked yet", severity="warning")
            return
        with self.telling():
            await self._load(await asyncio.to_thread(self.session.store.branch, self.session.id))

    @work(exclusive=True, group="dialog")
    async def rename_session(self, title: str) -> None:
        if self.session.id is None:
            self.workbench.say("nothing was asked yet", severity="warning")
            return
        with self.telling():
            await asyncio.to_thread(self.session.store.rename, self.session.id, title)
            self.session.title = title
            self.draw_frame()

    async def _load(self, id: int) -> None:
        with self.telling():
            store = self.session.store
            record, draft = await asyncio.to_thread(lambda: (store.load(id), store.draft(id)))
            self.blind, self._voted = None, {}
            self.show_session(record, draft)

    @work(exclusive=True, group="dialog")
    async def action_export(self, path: str = "") -> None:
        from xin.tui.dialogs.export import ExportDialog

        if self.session.id is None:
            self.workbench.say("nothing was asked yet: there is nothing to export", severity="warning")
            return
        written = await self.app.push_screen_wait(ExportDialog(self.session.id, self.session.title, path=path))
        if written is not None:
            self.workbench.say(clean(f"written to {written}"))

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """What goes wrong inside is said in a toast."""
        try:
            yield
        except XinError as exc:
            self.workbench.say(clean(f"{exc.message}{': ' + exc.hint if exc.hint else ''}"), severity="warning")
