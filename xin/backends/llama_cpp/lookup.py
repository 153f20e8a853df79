"""Prompt lookup: what followed the last time that the same few tokens stood in the text is a guess at what comes next.

Source: Saxena, "Prompt Lookup Decoding", 2023. Editing, quoting and code repeat their prompt; free talk does not.
"""

from __future__ import annotations

from bisect import bisect_right

NGRAM = 3  # so many equal tokens before a guess
REACH = 32_768  # tokens of the prompt that are looked at: indexing more would hold up the others
RUNS = (2, 6, 12)  # a passage that has been right so often in a row is likelier to go on
FIRST_ACCURACY = (0.4, 0.7, 0.85, 0.95)  # by how long it has been right, before anything was seen
_SMOOTHING = 0.1


class Lookup:
    """Guesses for one growing text, `tokens`, which it does not own.

    `accuracy` is the share of its guesses at single tokens that came true lately, of passages that had been right as
    long as the present one. Guesses that nobody asked for count too, so it is known before a draft costs anything.
    """

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        self._seen = max(0, len(tokens) - REACH)
        self._ends: dict[tuple[int, ...], int] = {}  # n-gram -> where the text went on after it
        self._next: int | None = None  # where the passage that is being repeated goes on
        self._run = 0  # tokens in a row that were right
        self._accuracy = [*FIRST_ACCURACY]
        self.follow()
        self._accuracy = [*FIRST_ACCURACY]  # how a prompt repeats itself tells little about its answer

    @property
    def accuracy(self) -> float:
        return self._accuracy[bisect_right(RUNS, self._run)]

    def follow(self) -> None:
        """Take in what the text has grown by."""
        tokens = self._tokens
        for at in range(self._seen, len(tokens)):
            if self._next is not None:
                right = tokens[self._next] == tokens[at]
                length = bisect_right(RUNS, self._run)
                self._accuracy[length] += _SMOOTHING * (right - self._accuracy[length])
                self._next = self._next + 1 if right else None
                self._run = self._run + 1 if right else 0
            end = at + 1
            if end >= NGRAM:
                ngram = tuple(tokens[end - NGRAM : end])
                if self._next is None:
                    self._next = self._ends.get(ngram)
                self._ends[ngram] = end
        self._seen = len(tokens)

    def guess(self, most: int) -> list[int]:
        """At most so many tokens; [] where nothing is being repeated. A text that goes round goes on going round."""
        if self._next is None or most <= 0:
            return []
        passage = self._tokens[self._next : self._next + most]
        return (passage * (most // len(passage) + 1))[:most] if self._next + most > len(self._tokens) else passage
