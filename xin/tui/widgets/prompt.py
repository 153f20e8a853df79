"""Where questions are typed: enter sends, it grows with its text, long pastes fold, and what was sent comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

from xin.tui.chat.chips import Chips
from xin.tui.chat.history import History

HEIGHTS = (1, 8)


class Prompt(TextArea):
    """`value` is the text with its chips unfolded."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "send", id="chat.send", priority=True, show=False, tooltip="Send the prompt"),
        Binding(
            "ctrl+j,shift+enter,alt+enter",
            "newline",
            "newline",
            id="chat.newline",
            priority=True,
            show=False,
            tooltip="A new line in the prompt",
        ),
        Binding(
            "ctrl+r",
            "search_history",
            "history",
            id="chat.history",
            priority=True,
            show=False,
            tooltip="Older prompts with these words in them; again for one older still",
        ),
        Binding(
            "alt+e",
            "unfold",
            "open paste",
            id="chat.unfold",
            priority=True,
            show=False,
            tooltip="Put the text of pasted chips into the prompt",
        ),
    ]

    @dataclass
    class Sent(Message):
        prompt: Prompt
        text: str

    @dataclass
    class Searching(Message):
        """What the history search is at: a word for the border, "" when it is over."""

        word: str

    def __init__(self, history: History | None = None, **kwargs: Any) -> None:
        super().__init__(soft_wrap=True, tab_behavior="focus", compact=True, highlight_cursor_line=False, **kwargs)
        self.prompts = history or History()
        self.chips = Chips()
        self.tallest = HEIGHTS[1]

    @property
    def value(self) -> str:
        return self.chips.unfold(self.text)

    def put(self, text: str) -> None:
        """Replace the text; the cursor goes to its end."""
        self.load_text(text)
        self.move_cursor(self.document.end)
        self._fit()

    def clear_all(self) -> None:
        self.chips = Chips()
        self.put("")

    def action_send(self) -> None:
        self.prompts.leave()
        self.post_message(self.Sent(self, self.value))

    def action_newline(self) -> None:
        self.insert("\n")

    def action_unfold(self) -> None:
        if self.chips.in_text(self.text):
            self.put(self.value)

    def action_search_history(self) -> None:
        if self.prompts.query is None:
            self.prompts.search(self.text)
        found = self.prompts.older(self.text)
        if found is not None:
            self.put(found)
        word = self.prompts.draft.strip()
        self.post_message(self.Searching(f"history «{word}»" if found is not None else f"no older «{word}»"))

    def leave_search(self) -> bool:
        """Back to what was typed; False when no search was on."""
        if self.prompts.query is None:
            return False
        self.put(self.prompts.draft)
        self.prompts.leave()
        self.post_message(self.Searching(""))
        return True

    def action_cursor_up(self, select: bool = False) -> None:
        if not select and self.cursor_at_first_line and (found := self.prompts.older(self.text)) is not None:
            self.put(found)
            return
        super().action_cursor_up(select)

    def action_cursor_down(self, select: bool = False) -> None:
        if not select and self.prompts.walking and self.cursor_at_last_line:
            found = self.prompts.newer()
            if found is not None:
                self.put(found)
            return
        super().action_cursor_down(select)

    def action_delete_left(self) -> None:
        row, column = self.cursor_location
        chip = self.chips.before(self.document.get_line(row)[:column]) if self.selection.is_empty else 0
        if chip:
            self.delete((row, column - chip), (row, column))
        else:
            super().action_delete_left()

    async def _on_paste(self, event: events.Paste) -> None:
        chip = self.chips.fold(event.text)
        if chip is None:
            return  # TextArea inserts it
        event.prevent_default()
        event.stop()
        self.insert(chip)

    async def _on_key(self, event: events.Key) -> None:
        if event.key.startswith("alt+"):
            event.prevent_default()  # a key that means nothing here is not a letter either

    def on_text_area_changed(self) -> None:
        self._fit()

    def on_resize(self) -> None:
        self._fit()

    def _fit(self) -> None:
        rows = min(max(self.wrapped_document.height, HEIGHTS[0]), self.tallest)
        height = rows + self.styles.gutter.height
        if self.styles.height is None or self.styles.height.value != height:
            self.styles.height = height
