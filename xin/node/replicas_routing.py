"""Which of several replicas answers a request: the one with the fewest tokens still to be done.

A replica that has read the beginning of the prompt before is preferred, since it need not read it again: so a
conversation returns to where its cache is, unless that one has much more to do than another. Nodes do not tell one
another what they have sent where: of equals the hash of a prompt's beginning chooses, so all nodes choose alike
(rendezvous hashing: Thaler and Ravishankar, 1998).
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec

BYTES_PER_TOKEN = 4
TYPICAL_ANSWER = 256  # tokens of an answer whose length nobody has limited
TYPICAL_REQUEST = 512  # of a request that came by another way, so that nothing else is known of it
LATE_SECONDS = 1.5  # what a replica says of itself may be so old
CACHED_WORTH = 4  # a token that need not be read again, in tokens that wait: those share their steps
MOST_PREFIXES = 8192
MOST_ENDED = 256  # remembered of each replica
MOST_POINTS = 128  # of one prompt
KEPT_REPLICAS = 4  # of one prefix
BLOCK_BYTES = 512
HOME_TOKENS = 256  # shorter prompts are not worth a hop: of equals the first one answers them
Digest = bytes


class _Body(msgspec.Struct):
    model: str = ""
    messages: list[msgspec.Raw] = []
    prompt: msgspec.Raw = msgspec.Raw()
    max_tokens: Any = None
    max_completion_tokens: Any = None
    n: Any = None


class _Named(msgspec.Struct):
    model: str = ""


_decode = msgspec.json.Decoder(_Body).decode
_decode_name = msgspec.json.Decoder(_Named).decode


@dataclass(slots=True)
class Prompt:
    """What a request asks for, as far as its way depends on it. Tokens are estimates.

    `points`: digests of its beginnings, shortest first, each with the tokens that it holds. `home`: the digest of its
    first message or block, for a long one.
    """

    model: str = ""
    tokens: int = 1
    answer: int = TYPICAL_ANSWER
    points: list[tuple[Digest, int]] = field(default_factory=list)
    home: Digest = b""

    @property
    def cost(self) -> int:
        return self.tokens + self.answer


@dataclass(frozen=True, slots=True)
class Candidate:
    """`running`: requests that it says it has; `workers`: how many share them. `key` names it to the router."""

    key: str
    ready: bool = True
    running: int = 0
    workers: int = 1


class Router:
    """Knows what it has sent where, and which beginnings each has read. Both are bounded."""

    def __init__(self) -> None:
        self._sent: dict[str, list[int]] = {}
        self._ended: dict[str, deque[float]] = {}
        self._seen: OrderedDict[Digest, tuple[str, ...]] = OrderedDict()

    def order(self, candidates: Sequence[Candidate], prompt: Prompt) -> list[Candidate]:
        """The best first; of equals the one that was named first, or for a long prompt the one that it hashes to."""
        cached = self._cached(prompt)

        def rank(one: Candidate) -> tuple[bool, float, bytes]:
            place = blake2b(one.key.encode(), key=prompt.home).digest() if prompt.home else b""
            return not one.ready, self._load(one) - CACHED_WORTH * cached(one.key), place

        return sorted(candidates, key=rank)

    @contextmanager
    def routed(self, key: str, prompt: Prompt) -> Iterator[None]:
        """While `key` answers it."""
        costs = self._sent.setdefault(key, [])
        costs.append(prompt.cost)
        self._remember(key, prompt)
        try:
            yield
        finally:
            costs.remove(prompt.cost)
            self._ended.setdefault(key, deque(maxlen=MOST_ENDED)).append(time.monotonic())
            if not costs and self._sent.get(key) is costs:
                del self._sent[key]

    def forget(self, key: str) -> None:
        """Its cache is gone."""
        self._ended.pop(key, None)
        for digest in [digest for digest, keys in self._seen.items() if key in keys]:
            self._seen[digest] = tuple(one for one in self._seen[digest] if one != key)

    def _load(self, one: Candidate) -> float:
        sent = self._sent.get(one.key, ())
        ended = self._ended.get(one.key, ())
        late = sum(time.monotonic() - at < LATE_SECONDS for at in ended)  # it may not have said so yet
        others = max(0, one.running - len(sent) - late)
        return (sum(sent) + others * TYPICAL_REQUEST) / max(1, one.workers)

    def _cached(self, prompt: Prompt) -> _Cached:
        """How many tokens of the prompt each has read: of its longest beginning that it was sent."""
        found: dict[str, int] = {}
        for digest, tokens in prompt.points:
            for key in self._seen.get(digest, ()):
                found[key] = tokens
        return _Cached(found)

    def _remember(self, key: str, prompt: Prompt) -> None:
        for digest, _ in prompt.points:
            known = [one for one in self._seen.pop(digest, ()) if one != key]
            self._seen[digest] = (key, *known[: KEPT_REPLICAS - 1])
        while len(self._seen) > MOST_PREFIXES:
            self._seen.popitem(last=False)


@dataclass(slots=True)
class _Cached:
    tokens: dict[str, int]

    def __call__(self, key: str) -> int:
        return self.tokens.get(key, 0)


def model_of(body: bytes) -> str:
    """ "" where the body names none; the handler says what is wrong with it."""
    try:
        return _decode_name(body).model
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return ""


def prompt_of(body: bytes) -> Prompt:
    """Of a body that is wrong nothing but its length counts; the handler says what is wrong with it."""
    try:
        asked = _decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return Prompt(model_of(body), _tokens(len(body)))
    points = _of_messages(asked) if asked.messages else _of_text(asked)
    tokens = _tokens(len(body))
    limits = [one for one in (asked.max_completion_tokens, asked.max_tokens) if isinstance(one, int) and one > 0]
    choices = asked.n if isinstance(asked.n, int) and asked.n > 0 else 1
    answer = min([*limits, TYPICAL_ANSWER * 16]) if limits else TYPICAL_ANSWER
    home = _home(asked) if tokens >= HOME_TOKENS else b""
    return Prompt(asked.model, tokens, answer * min(choices, 128), points, home)


def _of_messages(asked: _Body) -> list[tuple[Digest, int]]:
    """A point after each message."""
    hashed, points, size = _begun(asked.model), [], 0
    for message in asked.messages:
        raw = bytes(message)
        hashed.update(raw)
        size += len(raw)
        points.append((hashed.digest(), _tokens(size)))
    return points[-MOST_POINTS:]


def _home(asked: _Body) -> Digest:
    hashed = _begun(asked.model)
    hashed.update(bytes(asked.messages[0]) if asked.messages else bytes(asked.prompt)[:BLOCK_BYTES])
    return bytes(hashed.digest())


def _of_text(asked: _Body) -> list[tuple[Digest, int]]:
    """Points in equal distances, which are a power of two: a longer text has those of its beginning among its own."""
    raw = bytes(asked.prompt)
    block = BLOCK_BYTES
    while len(raw) // block > MOST_POINTS:
        block *= 2
    hashed, points = _begun(asked.model), []
    for end in range(block, len(raw) + 1, block):
        hashed.update(raw[end - block : end])
        points.append((hashed.digest(), _tokens(end)))
    return points


def _begun(model: str) -> Any:
    return blake2b(model.encode("utf-8", "replace"), digest_size=16)


def _tokens(size_bytes: int) -> int:
    return max(1, size_bytes // BYTES_PER_TOKEN)
