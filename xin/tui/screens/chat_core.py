"""What the Chat is made of: its panes, its session, and how a question goes out and its answers are drawn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from textual import events, on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static, TextArea

from xin.errors import Unreachable, UsageError, XinError
from xin.tui.chat import sampling, slash
from xin.tui.chat.answers import next_turn
from xin.tui.chat.conversation import Message
from xin.tui.chat.refusal import Refusal
from xin.tui.chat.session_log import SessionLog, message_of
from xin.tui.chat.stream import ChatClient
from xin.tui.chat.talk import Talk
from xin.tui.chat.ticker import Ticker, seconds_here
from xin.tui.glyphs import G
from xin.tui.screens.place import Place
from xin.tui.store import Target
from xin.tui.text import clean, fit
from xin.tui.widgets.pane import Pane, blind_words
from xin.tui.widgets.pane_row import PaneRow
from xin.tui.widgets.prompt import Prompt
from xin.tui.widgets.titles import set_title

if TYPE_CHECKING:
    from xin.sessions.records import SessionRecord

WAITING_SECONDS = 0.5  # how often the figures of a silent answer move on
DRAFT_SECONDS = 0.5
COMPLETIONS = 6
MUTED = "$foreground-muted"


class ChatCore(Place):
    """Composes, sends and draws; what the keys do is in `ChatScreen`."""

    PLACE = "chat"
    AUTO_FOCUS = "Prompt"
    CSS_PATH = "chat.tcss"

    def __init__(self) -> None:
        super().__init__()
        self.pane_row = PaneRow()
        self.prompt = Prompt(id="prompt")
        self.to_all = True
        self.completions: list[slash.Completion] = []
        self.editing: int | None = None  # the turn that is asked anew
        self.ticker = Ticker(self._flush, seconds=seconds_here())
        self._beginning = asyncio.Lock()
        self._session: SessionLog | None = None
        self._waiting: Timer | None = None
        self._draft_timer: Timer | None = None

    def body(self) -> ComposeResult:
        yield self.pane_row
        yield Static("", id="no-panes", markup=False)
        yield Static("", id="completions", markup=False)
        yield self.prompt

    def on_mount(self) -> None:
        self.set_class(True, "-empty")
        self.draw_frame()
        self._remember()

    def on_unmount(self) -> None:
        """What streams is kept as far as it came; the draft too."""
        for pane in self.panes:
            pane.talk.stop()
        self.ticker.cancel()
        if self._draft_timer is not None:
            self._save_draft()

    # ---- what others ask of it

    @property
    def session(self) -> SessionLog:
        if self._session is None:
            self._session = SessionLog(self.workbench.sessions)
        return self._session

    @property
    def panes(self) -> list[Pane]:
        return self.pane_row.panes

    @property
    def talks(self) -> list[Talk]:
        return [pane.talk for pane in self.panes]

    def open_targets(self, targets: list[Target], prompt: str = "") -> None:
        """A pane each, those that are open already reused; the prompt is typed in, not sent."""
        opened = []
        for target in targets:
            known = next((one for one in self.panes if (one.talk.node, one.talk.model) == tuple(target)), None)
            opened.append(known or self.add_pane(target))
        if opened:
            self.pane_row.choose(self.panes.index(opened[0]))
            self.draw_frame()
        if prompt:
            self.prompt.put(prompt)
        self.prompt.focus()

    def leaving(self) -> list[str]:
        count = sum(talk.streaming for talk in self.talks)
        return [f"{count} answer{'s' * (count > 1)} on the way"] if count else []

    def add_pane(self, target: Target, *, system: str = "", settings: dict[str, Any] | None = None) -> Pane:
        index = max((talk.index for talk in self.talks), default=-1) + 1
        talk = Talk(target.uid, target.node_id, system, dict(settings or {}), index=index)
        return self.show_talk(talk)

    def show_talk(self, talk: Talk) -> Pane:
        """A pane for it, as the current one."""
        talk.log, talk.on_news = self.session, self.ticker.poke
        pane = Pane(talk)
        self._look_up(pane)
        self.pane_row.add(pane)
        self.panes_changed()
        return pane

    def close_pane(self, pane: Pane) -> None:
        pane.talk.stop()
        self.pane_row.drop(pane)
        self.panes_changed()
        self.prompt.focus()

    def panes_changed(self) -> None:
        """Their number, order or models."""
        self.session.save_panes(self.talks)
        for pane in self.panes:
            self._look_up(pane)
            pane.show_talk()
        self.pane_row.lay_out()
        self.draw_frame()

    def swap_model(self, pane: Pane, target: Target) -> None:
        """The talk goes on with another model."""
        pane.talk.stop()
        pane.talk.node, pane.talk.model = target
        self.panes_changed()

    def show_session(self, record: SessionRecord, draft: str = "") -> None:
        """Leave this session and go on with that one."""
        self.leave_session()
        self.session.id, self.session.title = record.id, record.title
        for kept in record.panes:
            talk = Talk(kept.model_uid, kept.node, kept.system, dict(kept.sampling), index=kept.index)
            messages = [message_of(one) for one in record.messages if one.pane == kept.index]
            self.show_talk(talk)
            talk.restore(messages, record.active.get(kept.index))
        self.pane_row.choose(0)
        self.panes_changed()
        for pane in self.panes:
            pane.asked()
        self.prompt.put(draft)

    def leave_session(self) -> None:
        for pane in list(self.panes):
            pane.talk.stop()
            self.pane_row.drop(pane)
        self.session.leave()
        self.editing = None
        self.draw_frame()

    def client_of(self, talk: Talk) -> ChatClient:
        """Of its node; one that is not to be reached refuses in the answer's place."""
        try:
            return self.workbench.client(talk.node)
        except XinError as exc:
            return Refusal(exc)

    def aimed(self) -> list[Pane]:
        """The panes that the prompt goes to."""
        current = self.pane_row.current
        return list(self.panes) if self.to_all else [current] if current is not None else []

    # ---- asking

    @on(Prompt.Sent)
    def _on_sent(self, event: Prompt.Sent) -> None:
        try:
            command = slash.parse(event.text)
        except UsageError as exc:
            self._refuse(f"{exc.message}\n{exc.hint or ''}".strip())
            return
        if command is not None:
            self.prompt.prompts.add(event.text)
            self.prompt.attach(*event.pictures)
            self.run_command(command)
        elif not self.panes:
            self._refuse("no model to ask: ctrl+n adds a pane")
        elif event.pictures and (blind := blind_words(self.aimed())):
            self._refuse(f"{blind}: nothing was sent")
        else:
            images = [picture.url for picture in event.pictures]
            self.send(slash.question(event.text), typed=event.text, images=images)

    def _refuse(self, why: str) -> None:
        self.prompt.take_back()
        self.workbench.say(why, severity="warning")

    @work(group="send")
    async def send(
        self, text: str, *, typed: str = "", images: Sequence[str] = (), fields: dict[str, Any] | None = None
    ) -> None:
        """Ask the panes aimed at, as one turn; while a question is edited, ask it anew there."""
        panes, turn = self.aimed(), self.editing
        try:
            async with self._beginning:
                await self.session.begin(text or "image", self.talks)
        except XinError as exc:
            self._refuse(f"this session is not kept: {exc.message}")
            return
        self.prompt.prompts.add(typed or text)
        self.editing = None
        fresh = next_turn(self.talks)
        for pane in panes:
            question = None if turn is None else pane.talk.conversation.question_of(turn)
            client = self.client_of(pane.talk)
            if question is not None:
                pane.talk.edit(question, text, client, images=images)
            elif turn is None:
                pane.talk.ask(text, fresh, client, images=images, fields=fields or {})
            pane.asked()
        self.draw_frame()

    def answer_again(self, panes: Sequence[Pane], answer: Message | None = None) -> None:
        for pane in panes:
            if pane.talk.regenerate(self.client_of(pane.talk), answer) is not None:
                pane.asked()
        self.draw_frame()

    # ---- drawing

    def _flush(self) -> None:
        """Draw all that has come in all panes, at once. Called by the ticker alone."""
        began = time.thread_time()
        self.call_after_refresh(lambda: self.ticker.took(time.thread_time() - began))
        with self.app.batch_update():
            ended = [pane for pane in self.panes if pane.talk.streaming and not pane.flush()]
        if ended:
            self.draw_frame()
        if any(talk.streaming for talk in self.talks) and self._waiting is None:
            self._waiting = self.set_timer(WAITING_SECONDS, self._wait_on)

    def _wait_on(self) -> None:
        self._waiting = None
        self.draw_strip()
        self.ticker.poke()

    def store_changed(self, topics: frozenset[str]) -> None:
        if topics & {"nodes", "instances", "link"}:
            for pane in self.panes:
                self._look_up(pane)
                if not pane.talk.streaming:
                    pane.draw()
            self.draw_frame()

    def _look_up(self, pane: Pane) -> None:
        """Its node and model as they are known now; an answer of a node that is gone has failed."""
        store = self.workbench.store
        talk = pane.talk
        pane.node = store.node(talk.node) or (store.home if not talk.node else None)
        pane.instance = pane.node.instances.get(talk.model) if pane.node is not None else None
        if pane.node is not None and pane.node.status == "gone" and talk.streaming:
            talk.fail(Unreachable(f"the node {clean(pane.node.name)} is gone", "it may come back: ctrl+g asks again"))
            if talk.answer is not None:
                pane.transcript.grow(talk.answer)

    def draw_frame(self) -> None:
        """Header, prompt's border, compare strip, and what stands there without panes."""
        self.set_class(not self.panes, "-empty")
        if not self.panes:
            self.query_one("#no-panes", Static).update(self._nothing())
        self._draw_prompt()
        self.header.facts = self._facts()
        self.draw_strip()

    def _draw_prompt(self) -> None:
        count = len(self.panes)
        current = self.pane_row.current
        self.prompt.set_class(self.to_all and count > 1, "-all")
        if self.to_all and count > 1:
            title = f"ALL {count} panes   alt+a one"
        elif current is not None:
            title = f"{current.number} {current.title}" + ("   alt+a all" if count > 1 else "")
        else:
            title = "prompt"
        if self.editing is not None:
            title += f"   {G.middle} asks turn {self.editing} anew, esc leaves it"
        keys = f"{G.enter} send  ^j newline  F4 editor  ^r history  esc stop"
        if self.size.width < 100:
            keys = f"{G.enter} send  ^j newline  F4 editor  esc stop"
        set_title(self.prompt, title, keys)

    def _facts(self) -> str:
        """The title has what room the others leave."""
        turn = next_turn(self.talks) - 1
        first, last = self.pane_row.seen
        parts = [word for word in (f"turn {turn}" if turn else "", self.settings_word()) if word]
        if len(self.panes) > last - first + 1:
            seen = f"panes {first}-{last}" if last > first else f"pane {first}"
            parts.append(f"{seen} of {len(self.panes)}")
        facts = "  ".join(parts)
        room = self.size.width - cell_len(facts) - (48 if self.size.width < 100 else 66)
        title = self._session.title if self._session is not None else ""
        return f"«{fit(title, min(room, cell_len(title))).strip()}»  {facts}" if title and room > 8 else facts

    def _nothing(self) -> Content:
        ready = len(self.workbench.store.targets())
        if ready:
            models = f"{ready} model{'s' if ready > 1 else ''} can answer"
            return Content(f"{models}\n\nctrl+n  open a pane\nF2  choose several\n1  the Bench (outside the prompt)")
        return Content("No model is ready\n\nctrl+pageup  the Bench: launch one there, and enter on it chats")

    # ---- what the keys add

    def run_command(self, command: slash.Command) -> None:
        """What was typed after a slash."""

    def settings_word(self) -> str:
        """What is set for the current pane, in a few cells."""
        current = self.pane_row.current
        if current is None:
            return ""
        parts = [f"system {G.done}" if current.talk.system else "", sampling.summary(current.talk.sampling)]
        return "  ".join(part for part in parts if part)

    def draw_strip(self) -> None:
        """The answers of the last turn compared."""

    # ---- the prompt

    @on(TextArea.Changed, "#prompt")
    def _on_typed(self) -> None:
        self._complete()
        if self._draft_timer is None:
            self._draft_timer = self.set_timer(DRAFT_SECONDS, self._save_draft)

    def _complete(self) -> None:
        """What a command that is being typed may become."""
        text = self.prompt.text
        if not slash.is_command(text) and not self.completions:
            return
        models = [clean(target.uid) for target in self.workbench.store.targets()]
        self.completions = slash.completions(text, models=models)[:COMPLETIONS]
        lines = [
            Content.assemble(("tab " if index == 0 else "    ", "$accent"), fit(one.label, 24), (one.help, MUTED))
            for index, one in enumerate(self.completions)
        ]
        box = self.query_one("#completions", Static)
        box.display = bool(lines)
        box.update(Content("\n").join(lines))
        self.refresh_bindings()

    def _save_draft(self) -> None:
        if self._draft_timer is not None:
            self._draft_timer.stop()
            self._draft_timer = None
        self.session.save_draft(self.prompt.value)

    @on(Prompt.Searching)
    def _on_searching(self, event: Prompt.Searching) -> None:
        self._draw_prompt()
        if event.word:
            set_title(self.prompt, f"{event.word}   ^r older  esc back")

    @work(exclusive=True, group="remember")
    async def _remember(self) -> None:
        """What was asked before, and what stood in the prompt when xin ended."""
        session = self.session
        asked, draft = await asyncio.to_thread(lambda: (session.store.questions(), session.store.draft(0)))
        self.prompt.prompts.extend_back(reversed(asked))
        if draft and not self.prompt.text:
            self.prompt.put(draft)

    # ---- focus

    @on(Pane.Chosen)
    def _on_chosen(self, event: Pane.Chosen) -> None:
        if event.pane in self.panes and event.pane is not self.pane_row.current:
            self.pane_row.choose(self.panes.index(event.pane))
            self.draw_frame()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        self.pane_row.set_in_prompt(event.widget is self.prompt)

    @on(PaneRow.Paged)
    def _on_paged(self) -> None:
        self.draw_frame()

    def on_resize(self) -> None:
        self.call_after_refresh(self.draw_frame)
