"""The prompts that were sent, to be walked and searched."""

from __future__ import annotations

from collections.abc import Iterable

LIMIT = 500


class History:
    """Newest last. While it is walked, `draft` is what stood in the prompt before."""

    def __init__(self, prompts: Iterable[str] = ()) -> None:
        self._prompts = list(prompts)[-LIMIT:]
        self._at: int | None = None
        self._query: str | None = None
        self.draft = ""

    def add(self, prompt: str) -> None:
        if prompt.strip():
            others = [one for one in self._prompts if one != prompt]
            self._prompts = [*others[-LIMIT + 1 :], prompt]
        self.leave()

    def extend_back(self, prompts: Iterable[str]) -> None:
        """Older prompts, in front of those known."""
        known = set(self._prompts)
        self._prompts = [one for one in dict.fromkeys(prompts) if one not in known] + self._prompts

    @property
    def walking(self) -> bool:
        return self._at is not None

    @property
    def query(self) -> str | None:
        """What is searched for; None when the history is only walked."""
        return self._query

    def search(self, query: str) -> None:
        """From now on only prompts with `query` in them."""
        self._query, self._at, self.draft = query.casefold(), None, query

    def older(self, now: str) -> str | None:
        """The prompt before the one shown; None when there is none."""
        if self._at is None and self._query is None:
            self.draft = now
        begin = len(self._prompts) if self._at is None else self._at
        return self._go(range(begin - 1, -1, -1))

    def newer(self) -> str | None:
        """The prompt after the one shown; at the end the draft, and the walk is over."""
        if self._at is None:
            return None
        found = self._go(range(self._at + 1, len(self._prompts)))
        if found is None:
            self.leave()
            return self.draft
        return found

    def leave(self) -> None:
        self._at = self._query = None

    def _go(self, places: range) -> str | None:
        for at in places:
            if not self._query or self._query in self._prompts[at].casefold():
                self._at = at
                return self._prompts[at]
        return None
