"""Log probabilities in OpenAI's two shapes."""

from __future__ import annotations

import codecs

from xin.protocol.openai import ChatLogprob, ChatLogprobs, CompletionLogprobs, TopLogprob
from xin.worker.frames import TokenLogprob

FLOOR = -9999.0  # JSON has no -inf; OpenAI gives this


def chat_logprobs(tokens: list[TokenLogprob], top: int) -> ChatLogprobs:
    """`content` entries with up to `top` alternatives each."""
    return ChatLogprobs([_entry(token, top) for token in tokens])


class LegacyLogprobs:
    """Builds the completions shape piece by piece: `text_offset` counts the characters before each token."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._offset = 0
        self._text = codecs.getincrementaldecoder("utf-8")("replace")

    def take(self, tokens: list[TokenLogprob]) -> CompletionLogprobs:
        shape = CompletionLogprobs([], [], [] if self._top else None, [])
        for token in tokens:
            shape.tokens.append(_legacy_text(token.piece))
            shape.token_logprobs.append(None if token.logprob is None else _finite(token.logprob))
            shape.text_offset.append(self._offset)
            self._offset += len(self._text.decode(token.piece))
            if shape.top_logprobs is not None:
                shape.top_logprobs.append(self._alternatives(token))
        return shape

    def _alternatives(self, token: TokenLogprob) -> dict[str, float] | None:
        if token.logprob is None:
            return None
        found = {_legacy_text(piece): _finite(logprob) for _, piece, logprob in token.top[: self._top]}
        found.setdefault(_legacy_text(token.piece), _finite(token.logprob))
        return found


def mean_logprob(tokens: list[TokenLogprob]) -> float:
    """How likely a choice is per token; the worst for a choice of none."""
    known = [token.logprob for token in tokens if token.logprob is not None]
    return sum(known) / len(known) if known else FLOOR


def _entry(token: TokenLogprob, top: int) -> ChatLogprob:
    alternatives = [TopLogprob(_text(piece), _finite(logprob), list(piece)) for _, piece, logprob in token.top[:top]]
    return ChatLogprob(_text(token.piece), _finite(token.logprob), list(token.piece), alternatives)


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")


def _legacy_text(piece: bytes) -> str:
    """OpenAI writes the bytes of a split character as `bytes:\\xe2\\x80`."""
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


def _finite(logprob: float | None) -> float:
    return FLOOR if logprob is None else max(logprob, FLOOR)
