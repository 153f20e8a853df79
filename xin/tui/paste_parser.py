"""What a terminal sends, with pastes cut out whole before keys are looked for: a pasted escape sequence is no key."""

from __future__ import annotations

from collections.abc import Generator, Iterable

from textual._xterm_parser import XTermParser
from textual.events import Paste
from textual.message import Message

from xin.tui.text import plain

BEGIN, END = "\x1b[200~", "\x1b[201~"
_SPLIT = 1 - len(END)


class PasteParser(XTermParser):
    """Takes the place of Textual's, which loses what follows an ESC in a paste, or takes it for keys.

    A paste comes as one event; its text is `plain`.
    """

    def __init__(self, debug: bool = False) -> None:
        super().__init__(debug)
        self._pasted: list[str] | None = None
        self._last = ""  # may be the beginning of a mark; of keys the parser below has seen it already

    def feed(self, data: str) -> Iterable[Message]:
        if not data:
            yield from super().feed(data)
        while data:
            data = yield from self._keys(data) if self._pasted is None else self._paste(self._pasted, data)

    def _keys(self, data: str) -> Generator[Message, None, str]:
        """Gives back what follows the beginning of a paste."""
        seen = self._last + data
        at = seen.find(BEGIN)
        if at < 0:
            self._last = seen[_SPLIT:]
            yield from super().feed(data)
            return ""
        own = at - len(self._last)
        if own > 0:
            yield from super().feed(data[:own])
        elif own < 0:
            self._forget()
        self._last, self._pasted = "", []
        return seen[at + len(BEGIN) :]

    def _paste(self, parts: list[str], data: str) -> Generator[Message, None, str]:
        """Gives back what follows the end of the paste."""
        seen = self._last + data
        at = seen.find(END)
        if at < 0:
            parts.append(seen[:_SPLIT])
            self._last = seen[_SPLIT:]
            return ""
        self._last, self._pasted = "", None
        yield Paste(plain("".join([*parts, seen[:at]])))
        return seen[at + len(END) :]

    def _forget(self) -> None:
        """The beginning of the mark that it has seen was no key."""
        self._gen = self.parse(self._tokens.append)
        self._awaiting = next(self._gen)
        self._timeout_time = None
