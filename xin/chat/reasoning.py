"""ReasoningSplit: the thoughts that begin an answer (`<think>…</think>`) apart from its content, while it streams."""

from __future__ import annotations

from xin.chat.tape import overlap

START = "<think>"
END = "</think>"


def opens_reasoning(prompt: str, start: str = START) -> bool:
    """Whether a rendered prompt ends inside a thought that the template has begun."""
    return prompt.rstrip().endswith(start)


class ReasoningSplit:
    """Feed text as it comes; each call gives (content, reasoning). However the text is cut, the sums are the same.

    Only a thought at the very beginning counts, so an answer may speak of the tag. White space around the tags is
    dropped; without a thought the text is left as it is. `opened`: the prompt holds the opening tag already.
    """

    def __init__(self, *, opened: bool = False, start: str = START, end: str = END) -> None:
        self._start = start
        self._end = end
        self._held = ""
        self._feed = self._thought_begins if opened else self._begin

    def feed(self, text: str) -> tuple[str, str]:
        """What can be told apart now; the rest is held until it can."""
        self._held += text
        return self._feed()

    def flush(self) -> tuple[str, str]:
        """At the end of the answer: what was held."""
        held, self._held = self._held, ""
        if self._feed == self._begin:
            return held, ""
        return "", "" if self._feed == self._content_begins else held.rstrip()

    def _begin(self) -> tuple[str, str]:
        text = self._held.lstrip()
        if text.startswith(self._start):
            self._held, self._feed = text[len(self._start) :], self._thought_begins
            return self._feed()
        if self._start.startswith(text):
            return "", ""
        self._feed = self._content
        return self._feed()

    def _thought_begins(self) -> tuple[str, str]:
        self._held = self._held.lstrip()
        if self._held.startswith(self._start):  # a model may repeat the tag that its template has set
            self._held = self._held[len(self._start) :]
            return self._thought_begins()
        if self._start.startswith(self._held):
            return "", ""
        self._feed = self._thought
        return self._feed()

    def _thought(self) -> tuple[str, str]:
        thought, found, rest = self._held.partition(self._end)
        if found:
            self._held, self._feed = rest, self._content_begins
            content, _ = self._feed()
            return content, thought.rstrip()
        keep = overlap(self._held, self._end)
        sure = self._held[: len(self._held) - keep].rstrip()
        self._held = self._held[len(sure) :]
        return "", sure

    def _content_begins(self) -> tuple[str, str]:
        self._held = self._held.lstrip()
        if not self._held:
            return "", ""
        self._feed = self._content
        return self._feed()

    def _content(self) -> tuple[str, str]:
        held, self._held = self._held, ""
        return held, ""
