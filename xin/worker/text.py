"""Bytes to text: UTF-8 assembled over tokens, stop strings found over tokens, logprobs kept beside their text."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field

from xin.worker.frames import TokenLogprob


@dataclass(slots=True)
class Piece:
    """Text that may go out now, the logprobs of its tokens, how many tokens, and the stop string that ended it."""

    text: str = ""
    tokens: int = 0
    logprobs: list[TokenLogprob] | None = None
    stop: str | None = None


@dataclass(slots=True)
class TextStream:
    """One choice's text. Holds back what may become a stop string; nothing else is ever held."""

    stops: list[str]
    _decoder: codecs.IncrementalDecoder = field(init=False)
    _held: str = ""
    _sent: int = 0
    _tokens: int = 0
    _logprobs: list[tuple[int, TokenLogprob]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, piece: bytes, tokens: int = 1, logprobs: list[TokenLogprob] | None = None) -> Piece:
        start = self._sent + len(self._held)
        if logprobs:
            self._logprobs.extend((start, item) for item in logprobs)
        self._tokens += tokens
        self._held += self._decoder.decode(piece)
        if not self.stops:
            return self._release(len(self._held), None)
        hit = self._find_stop()
        if hit is not None:
            position, stop = hit
            return self._release(position, stop)
        return self._release(len(self._held) - self._partial_stop(), None)

    def flush(self) -> Piece:
        """The end of the generation: half a character becomes U+FFFD, held text goes out."""
        self._held += self._decoder.decode(b"", final=True)
        hit = self._find_stop() if self.stops else None
        return self._release(hit[0], hit[1]) if hit else self._release(len(self._held), None)

    def _release(self, length: int, stop: str | None) -> Piece:
        text, self._held = self._held[:length], "" if stop else self._held[length:]
        self._sent += length
        tokens, self._tokens = self._tokens, 0
        if not self._logprobs:
            return Piece(text, tokens, None, stop)
        # A token belongs to the text it starts in; tokens of the stop string itself are dropped with it.
        out = [item for start, item in self._logprobs if start < self._sent or (not self._held and not stop)]
        self._logprobs = self._logprobs[len(out) :]
        return Piece(text, tokens, out or None, stop)

    def _find_stop(self) -> tuple[int, str] | None:
        found = [(at, stop) for stop in self.stops if (at := self._held.find(stop)) >= 0]
        return min(found) if found else None

    def _partial_stop(self) -> int:
        """Length of the longest tail of the held text that begins a stop string."""
        longest = 0
        for stop in self.stops:
            for size in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:size]):
                    longest = size
                    break
        return longest
