"""F5: which answer of the turn is best. Names that were hidden until now come out with the vote."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, NamedTuple

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from xin.errors import XinError
from xin.sessions.records import Standing
from xin.sessions.store import SessionStore
from xin.tui.chat.votes import WORDS, Blind, Candidate, ballot, record_of
from xin.tui.dialogs.dialog import Dialog
from xin.tui.dialogs.model_choice import node_name
from xin.tui.glyphs import G
from xin.tui.text import clean, fit

MAX_CANDIDATES = 9


class VoteResult(NamedTuple):
    """`winner` as the session keeps it: a model's uid, "tie" or "none"; `pane` of the winner, None without one."""

    winner: str
    pane: int | None


class VoteDialog(Dialog[VoteResult]):
    """Keeps the vote in the session and gives it; None when the person thinks better of it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(key), f"vote({key})", f"{key}", id=f"vote.{key}", show=False, tooltip=f"Answer {key} is best")
            for key in range(1, MAX_CANDIDATES + 1)
        ),
        Binding("equals_sign", "vote_word('tie')", "tie", id="vote.tie", tooltip="They are equally good"),
        Binding("0", "vote_word('none')", "none", id="vote.none", tooltip="No answer is good"),
        Binding("enter", "done", "done", id="vote.done", show=False, tooltip="Close it after the vote"),
    ]

    def __init__(
        self, session_id: int, turn: int, question: str, candidates: Iterable[Candidate], blind: Blind | None = None
    ) -> None:
        self._candidates = list(candidates)[:MAX_CANDIDATES]
        if blind is not None:
            self._candidates = blind.arranged(self._candidates)[:MAX_CANDIDATES]
        last = f"1-{len(self._candidates)}" if len(self._candidates) > 1 else "1"
        super().__init__(
            f"Vote on turn {turn}{', blind' if blind else ''}",
            command="xin sessions votes",
            keys=f"{last} best   = tie   0 none is good   esc back",
        )
        self._session_id = session_id
        self._turn = turn
        self._question = question
        self._blind = blind
        self._tally: list[Standing] = []
        self._result: VoteResult | None = None

    def body(self) -> ComposeResult:
        yield Static("", id="vote-lines", markup=False)

    def on_mount(self) -> None:
        self._draw()
        self._read_tally()

    # ---- keys

    def action_vote(self, key: int) -> None:
        if self._result is None and key <= len(self._candidates):
            chosen = self._candidates[key - 1]
            self._vote(VoteResult(chosen.model, chosen.pane))

    def action_vote_word(self, word: str) -> None:
        if self._result is None:
            self._vote(VoteResult(word, None))

    def action_done(self) -> None:
        if self._result is not None:
            self.dismiss(self._result)

    def action_close(self) -> None:
        self.dismiss(self._result)

    # ---- parts

    def _vote(self, result: VoteResult) -> None:
        store: SessionStore = self.workbench.sessions
        ballots = ballot(self._candidates, self._question)
        store.vote(self._session_id, self._turn, result.winner, ballots, self._blind is not None)
        self._result = result
        self.query_one("#dialog").border_subtitle = Content(f" {G.enter} done ")
        self._draw()
        self._read_tally()

    @work(exclusive=True, thread=True)
    def _read_tally(self) -> None:
        try:
            tally = self.workbench.sessions.tally()
        except XinError as exc:
            self.app.call_from_thread(self.workbench.say, exc.message, severity="error")
            return
        self.app.call_from_thread(self._show_tally, tally)

    def _show_tally(self, tally: list[Standing]) -> None:
        self._tally = tally
        if self.query("#vote-lines"):  # else closed meanwhile
            self._draw()

    def _draw(self) -> None:
        lines = [self._line(number, one) for number, one in enumerate(self._candidates, 1)]
        if self._result is not None and self._result.pane is None:
            lines.append(Content.styled(f"{G.star} {WORDS[self._result.winner]}", "bold $text-success"))
        self.query_one("#vote-lines", Static).update(Content("\n").join(lines))

    def _line(self, number: int, one: Candidate) -> Content:
        """Figures would tell who is who, so they are hidden with the name."""
        hidden = self._blind is not None and self._result is None
        won = self._result is not None and self._result.pane == one.pane
        star = (f"{G.star} ", "bold $text-success") if won else "  "
        key = (f"{number} ", "bold $accent")
        if hidden and self._blind is not None:
            return Content.assemble(key, star, f"answer {self._blind.name(one.pane)}")
        letter = f"{self._blind.name(one.pane)} = " if self._blind is not None else ""
        name = fit(f"{letter}{clean(one.model)} @{node_name(self.workbench.store, one.node)}", 32)
        rate = f"{one.tokens_per_second:.0f} t/s" if one.tokens_per_second else G.none
        record = record_of(self._tally, one.model) or "no votes yet"
        return Content.assemble(
            key, star, (name, "bold" if won else ""), f" {fit(rate, 9)} ", (record, "$foreground-muted")
        )
