"""The Chat: panes side by side, each with a model of any node, and one prompt for one or all of them."""

from __future__ import annotations

import time
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType

from xin.sessions.records import PaneRecord
from xin.tui.chat import clipboard, external, slash
from xin.tui.chat.blocks import Document, codes
from xin.tui.chat.conversation import Message
from xin.tui.chat.session_log import panes_of
from xin.tui.screens.chat_commands import ChatCommands
from xin.tui.screens.chat_compare import ChatCompare
from xin.tui.store import Target
from xin.tui.widgets.message import Stop
from xin.tui.widgets.pane import Pane
from xin.tui.widgets.prompt import Prompt
from xin.tui.widgets.transcript import Transcript

TWICE_SECONDS = 1.5


def _key(key: str, action: str, word: str, tooltip: str, id: str = "", *, show: bool = False) -> Binding:
    """Acts in the prompt too."""
    name = id or action.partition("(")[0]
    return Binding(key, action, word, show=show, priority=True, id=f"chat.{name}", tooltip=tooltip)


def _letter(key: str, action: str, word: str, tooltip: str, id: str) -> Binding:
    """Acts while a pane has the focus."""
    return Binding(key, action, word, show=False, id=f"chat.{id}", tooltip=tooltip)


class ChatScreen(ChatCompare):
    HELP = (
        "Panes side by side; the prompt goes to all of them, or with alt+a to one. Letters act while a pane has the "
        "focus: tab goes there, alt+up puts the cursor on a block of an answer."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        _key("f2", "panes", "panes", "Add, remove, swap and order panes", show=True),
        _key("ctrl+n", "add", "add", "Another pane", show=True),
        _key("ctrl+g", "regenerate", "regen", "Answer again, as a branch; twice = in all panes", show=True),
        _key("ctrl+t", "params", "settings", "System prompt and sampling, of this pane or all", show=True),
        _key("alt+d", "diff", "diff", "Word by word, what two answers share", show=True),
        _key("f5", "vote", "vote", "Which answer is best", show=True),
        _key("alt+y", "copy", "copy", "Copy the block under the cursor, else the last code block", show=True),
        _key("f8", "export", "export", "Write the session to a file"),
        _key("escape", "stop", "stop", "Stop this pane's answer; twice = all"),
        _key("alt+a", "target", "one/all", "The prompt goes to this pane, or to all"),
        _key("alt+left", "pane(-1)", "pane left", "The pane to the left", "pane.left"),
        _key("alt+right", "pane(1)", "pane right", "The pane to the right", "pane.right"),
        _key("alt+up", "block(-1)", "block up", "The block above", "block.up"),
        _key("alt+down", "block(1)", "block down", "The block below; after the last the prompt", "block.down"),
        _key("alt+v", "branch(1)", "branch", "The next branch of the answer", "branch.next"),
        _key("alt+w", "close", "close pane", "Close this pane; its talk stays in the session"),
        _key("alt+z", "zoom", "zoom", "This pane alone; again or esc for all", "zoom"),
        _key("alt+r", "fold", "thoughts", "Open or fold the model's reasoning"),
        _key("alt+l", "log", "log", "What the model's process has said"),
        _key("alt+s", "sessions", "sessions", "Other sessions: search, load, rename"),
        _key("alt+n", "new", "new session", "Leave this session and begin another with the same panes"),
        _key("pageup", "scroll(-1)", "page up", "The current pane a page up", "scroll.up"),
        _key("pagedown", "scroll(1)", "page down", "The current pane a page down", "scroll.down"),
        _key("tab", "complete", "complete", "Fill in what stands above the prompt"),
        _key("f4", "editor", "editor", "Write the prompt in $EDITOR"),
        _key("f9", "blind", "blind", "Hide the models' names until the vote"),
        _letter("y", "copy", "copy block", "Copy the block under the cursor", "block.copy"),
        _letter("Y", "copy_message", "copy message", "Copy the whole message", "message.copy"),
        _letter("e", "edit", "edit", "Ask this question in other words, as a branch", "edit"),
        _letter("o", "page", "pager", "Show the message in $PAGER", "page"),
        _letter("r", "retry", "retry", "Answer again, as a branch", "retry"),
        _letter("m", "model", "model", "Another model in this pane", "model"),
        _letter("L", "log", "log", "What the model's process has said", "log.letter"),
        _letter("enter", "open", "open", "Open or fold reasoning; else back to the prompt", "open"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._pressed: tuple[str, float] = ("", 0.0)

    # ---- panes

    def action_target(self) -> None:
        self.to_all = not self.to_all
        self.draw_frame()

    def action_pane(self, by: int) -> None:
        in_prompt = self.focused is self.prompt
        self.pane_row.step(by)
        if not in_prompt and self.pane_row.current is not None:
            self.pane_row.current.transcript.focus()
        self.draw_frame()

    def action_scroll(self, by: int) -> None:
        """Of the current pane, also from the prompt."""
        if self.pane_row.current is not None:
            transcript = self.pane_row.current.transcript
            transcript.scroll_relative(y=by * max(transcript.size.height - 2, 1), animate=False)

    def action_zoom(self) -> None:
        self.pane_row.zoomed = not self.pane_row.zoomed and bool(self.panes)
        self.pane_row.lay_out()
        self.draw_frame()

    def action_close(self) -> None:
        if self.pane_row.current is not None:
            self.close_pane(self.pane_row.current)

    @work(exclusive=True, group="dialog")
    async def action_add(self) -> None:
        """The one model that has no pane yet, else one that is chosen."""
        ready = self.workbench.store.targets()
        free = [one for one in ready if one not in {Target(talk.node, talk.model) for talk in self.talks}]
        chosen = free[0] if len(free) == 1 else await self._choose("Add a pane with")
        if chosen is not None:
            self.add_pane(chosen)

    @work(exclusive=True, group="dialog")
    async def action_model(self) -> None:
        pane = self.pane_row.current
        if pane is not None and (chosen := await self._choose(f"Model of pane {pane.number}")) is not None:
            self.swap_model(pane, chosen)

    async def _choose(self, title: str) -> Target | None:
        from xin.tui.dialogs.model_choice import ModelChoice

        return await self.app.push_screen_wait(ModelChoice(title))

    @work(exclusive=True, group="dialog")
    async def action_panes(self) -> None:
        from xin.tui.dialogs.panes import PanesDialog

        wanted = await self.app.push_screen_wait(PanesDialog(panes_of(self.talks), self.pane_row.index))
        if wanted is not None:
            self._arrange(wanted)

    @work(exclusive=True, group="dialog")
    async def action_params(self) -> None:
        from xin.tui.dialogs.params import ParamsDialog

        if not self.panes:
            return
        dialog = ParamsDialog(panes_of(self.talks), self.pane_row.index, everyone=self.to_all and len(self.panes) > 1)
        wanted = await self.app.push_screen_wait(dialog)
        if wanted is not None:
            self._arrange(wanted)

    def _arrange(self, wanted: list[PaneRecord]) -> None:
        """Panes as a dialog leaves them; those with an unknown index are new."""
        known = {pane.talk.index: pane for pane in self.panes}
        kept = {record.index for record in wanted}
        for index, pane in known.items():
            if index not in kept:
                pane.talk.stop()
                self.pane_row.drop(pane)
        panes: list[Pane] = []
        for record in wanted:
            pane = known.get(record.index) or self.add_pane(Target(record.node, record.model_uid))
            talk = pane.talk
            if (talk.node, talk.model) != (record.node, record.model_uid):
                talk.stop()
            talk.node, talk.model = record.node, record.model_uid
            talk.system, talk.sampling = record.system, dict(record.sampling)
            panes.append(pane)
        self.pane_row.order(panes)
        self.panes_changed()

    # ---- answers

    def action_stop(self) -> None:
        """One thing at a time: a search, an answer, all answers, an edit, the zoom; then back to the prompt."""
        current = self.pane_row.current
        streaming = [pane for pane in self.panes if pane.talk.streaming]
        if self.prompt.leave_search():
            return
        if streaming:
            self._stop(streaming, current)
        elif self.editing is not None:
            self.editing = None
            self.prompt.clear_all()
            self.draw_frame()
        elif self.pane_row.zoomed:
            self.action_zoom()
        else:
            self._to_prompt()

    def _stop(self, streaming: list[Pane], current: Pane | None) -> None:
        again = self._pressed_again("stop")
        for pane in streaming if again else [pane for pane in streaming if pane is current]:
            pane.talk.stop()
            if pane.talk.answer is not None:
                pane.transcript.grow(pane.talk.answer)
            pane.draw()
        self.draw_frame()
        left = sum(pane.talk.streaming for pane in self.panes)
        if left and not again:
            self.workbench.say(f"esc again stops {'the other' if left == 1 else f'the other {left}'}", timeout=2)

    def action_regenerate(self) -> None:
        current = self.pane_row.current
        if current is None:
            return
        others = [pane for pane in self.panes if pane is not current]
        self.answer_again(others if self._pressed_again("regenerate") else [current])

    def action_retry(self) -> None:
        if self.pane_row.current is not None:
            at = self.pane_row.current.transcript.current
            answer = at[0] if at is not None and at[0].role == "assistant" else None
            self.answer_again([self.pane_row.current], answer)

    def action_branch(self, by: int) -> None:
        """Another branch of the message under the cursor, else of the last one that has several."""
        pane = self.pane_row.current
        if pane is None or pane.talk.streaming:
            return
        talk = pane.talk.conversation
        at = pane.transcript.current
        several = [one for one in talk.path() if talk.branch(one)[1] > 1]
        message = at[0] if at is not None and talk.branch(at[0])[1] > 1 else several[-1] if several else None
        if message is not None:
            pane.talk.step(message, by)
            pane.show_talk()
            self.draw_frame()

    # ---- blocks

    def action_block(self, by: int) -> None:
        pane = self.pane_row.current
        if pane is None:
            return
        if pane.transcript.move_cursor(by):
            pane.transcript.focus(scroll_visible=False)
        elif by > 0:
            self._to_prompt()

    def action_open(self) -> None:
        pane = self.pane_row.current
        if pane is None or not pane.transcript.toggle():
            self._to_prompt()

    def action_fold(self) -> None:
        if self.pane_row.current is not None:
            self.pane_row.current.transcript.fold_reasoning()

    def action_copy(self) -> None:
        """What the cursor is on; without one the last code block, else the last answer."""
        at = self._at
        if at is not None:
            self.copy(at[1].copied)
            return
        answer = self._last_answer()
        if answer is not None:
            found = codes(Document(answer.text).blocks)
            self.copy(found[-1] if found else answer.text)

    def action_copy_message(self) -> None:
        message = self._at[0] if self._at is not None else self._last_answer()
        if message is not None:
            self.copy(message.text)

    @work(exclusive=True, group="copy")
    async def copy(self, text: str) -> None:
        self.workbench.say(await clipboard.copy(self.app, text), timeout=2)

    def action_edit(self) -> None:
        """Put the question into the prompt; sending it branches."""
        message = self._at[0] if self._at is not None else None
        pane = self.pane_row.current
        if pane is None or message is None:
            return
        question = message if message.role == "user" else pane.talk.conversation.parent(message)
        if question is not None:
            self.editing = question.turn
            self.prompt.put(question.text)
            self._to_prompt()
            self.draw_frame()

    @work(exclusive=True, group="external")
    async def action_page(self) -> None:
        message = self._at[0] if self._at is not None else self._last_answer()
        if message is not None:
            with self.telling():
                await external.page(self.app, message.text)
            self.app.refresh(repaint=True, layout=True)

    @work(exclusive=True, group="external")
    async def action_editor(self) -> None:
        with self.telling():
            self.prompt.put(await external.edit(self.app, self.prompt.opened))
        self.app.refresh(repaint=True, layout=True)
        self.prompt.focus()

    @property
    def _at(self) -> tuple[Message, Stop] | None:
        """The message and block under the cursor of the current pane."""
        return self.pane_row.current.transcript.current if self.pane_row.current is not None else None

    def _last_answer(self) -> Message | None:
        path = self.pane_row.current.talk.conversation.path() if self.pane_row.current is not None else []
        return next((one for one in reversed(path) if one.role == "assistant"), None)

    # ---- elsewhere

    def action_log(self) -> None:
        if self.pane_row.current is not None:
            talk = self.pane_row.current.talk
            self.workbench.open_logs(talk.node, talk.model)

    def action_new(self) -> None:
        """The same panes, nothing said yet. What was said stays in the session that is left."""
        self.action_clear()
        self.session.leave()
        self.draw_frame()

    def action_clear(self) -> None:
        """Begin anew in all panes, within the session."""
        for pane in self.panes:
            pane.talk.clear()
        self.editing = None
        self.panes_changed()

    @property
    def current_panes(self) -> list[Pane]:
        """The current one, or none."""
        return [self.pane_row.current] if self.pane_row.current is not None else []

    def run_command(self, command: slash.Command) -> None:
        ChatCommands(self).run(command)

    @on(Prompt.Dropped)
    async def _on_dropped(self, event: Prompt.Dropped) -> None:
        await ChatCommands(self).dropped(event.path, event.text)

    # ---- parts

    def action_complete(self) -> None:
        """Fill in the first completion of a command."""
        if self.completions:
            self.prompt.put(self.completions[0].text)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "complete":
            return self.focused is self.prompt and bool(self.completions)
        return super().check_action(action, parameters)

    def _to_prompt(self) -> None:
        if self.pane_row.current is not None and isinstance(self.focused, Transcript):
            self.pane_row.current.transcript.set_cursor(None)
        self.prompt.focus()

    def _pressed_again(self, name: str) -> bool:
        """Whether the same was pressed a moment ago; a third time counts as a first."""
        now = time.monotonic()
        before, at = self._pressed
        again = before == name and now - at < TWICE_SECONDS
        self._pressed = ("" if again else name, now)
        return again
