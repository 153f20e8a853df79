"""Where questions are typed: enter sends, it grows with its text, long pastes fold, and what was sent comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

from xin.tui.chat.chips import Chips
from xin.tui.chat.history import History
from xin.tui.chat.picture import Picture, pasted_path
from xin.tui.text import plain

HEIGHTS = (1, 8)


def _own(key: str, action: str, tooltip: str) -> Binding:
    return Binding(key, action, action, id=f"chat.{action}", show=False, tooltip=tooltip)


OWN = frozenset({"send", "newline", "history", "unfold"})


class Prompt(TextArea):
    """`value` is the text with its pastes unfolded and without the chips of pictures."""

    BINDINGS: ClassVar[list[BindingType]] = [
        _own("enter", "send", "Send the prompt"),
        _own("ctrl+j,shift+enter,alt+enter", "newline", "A new line in the prompt"),
        _own("ctrl+r", "history", "Older prompts with these words in them; again for one older still"),
        _own("alt+e", "unfold", "Put the text of pasted chips into the prompt"),
    ]

    @dataclass
    class Sent(Message):
        prompt: Prompt
        text: str
        pictures: list[Picture] = field(default_factory=list)

    @dataclass
    class Dropped(Message):
        """What was pasted may be an image's path; the text is not in the prompt yet."""

        path: Path
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
        self._keys: dict[str, str] | None = None
        self._sent = ("", self.chips)

    @property
    def value(self) -> str:
        return self.chips.unfold(self.text)

    @property
    def opened(self) -> str:
        """The text with its pastes, and the chips of pictures as they are: as one edits it."""
        return self.chips.open_pastes(self.text)

    def put(self, text: str) -> None:
        """Replace the text, made plain; the cursor goes to its end."""
        self.load_text(plain(text))
        self.move_cursor(self.document.end)
        self._fit()

    def attach(self, *pictures: Picture) -> None:
        """Their chips at the cursor; what is deleted there is not sent."""
        self.insert("".join(f"{self.chips.attach(picture)} " for picture in pictures))

    def clear_all(self) -> None:
        self.chips = Chips()
        self.put("")

    def take_back(self) -> None:
        """What was sent last could not be: it stands in the prompt again, unless something else does by now."""
        if not self.text:
            text, self.chips = self._sent
            self.put(text)

    def action_send(self) -> None:
        """It is empty at once: what is typed from now on belongs to the next question."""
        self.prompts.leave()
        if self.text.strip():
            pictures = self.chips.pictures(self.text)
            sent = self.Sent(self, self.value.strip() if pictures else self.value, pictures)
            self._sent = (self.text, self.chips)
            self.clear_all()
            self.post_message(sent)

    def action_newline(self) -> None:
        self.insert("\n")

    def action_unfold(self) -> None:
        if self.chips.in_text(self.text):
            self.put(self.opened)

    def action_history(self) -> None:
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
        event.text = plain(event.text)
        if (path := pasted_path(event.text)) is not None:
            event.prevent_default()
            event.stop()
            self.post_message(self.Dropped(path, event.text))
            return
        chip = self.chips.fold(event.text)
        if chip is None:
            return  # TextArea inserts it
        event.prevent_default()
        event.stop()
        self.insert(chip)

    async def _on_key(self, event: events.Key) -> None:
        """Its keys are taken here, in the order of typing: priority bindings overtake letters that are on their way."""
        if self._keys is None:
            active = self.screen.active_bindings.items()
            self._keys = {key: one.binding.action for key, one in active if one.node is self}
        action = self._keys.get(event.key)
        if action in OWN:
            event.stop()
            event.prevent_default()
            await self.run_action(action)
        elif event.key.startswith("alt+"):
            event.prevent_default()  # a key that means nothing here is not a letter either

    def on_text_area_changed(self) -> None:
        self._fit()

    def on_focus(self) -> None:
        self._keys = None  # the keymap may have changed

    def on_resize(self) -> None:
        self._fit()

    def _fit(self) -> None:
        rows = min(max(self.wrapped_document.height, HEIGHTS[0]), self.tallest)
        height = rows + self.styles.gutter.height
        if self.styles.height is None or self.styles.height.value != height:
            self.styles.height = height
