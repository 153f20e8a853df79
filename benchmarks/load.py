"""A streaming HTTP client that costs next to nothing while it measures: bytes are stamped now and parsed later."""

from __future__ import annotations

import asyncio
import json
import re
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any, cast
from urllib.parse import urlsplit

LONGEST_SECONDS = 600.0
CHUNK_SIZE = re.compile(rb"(?:\A|\r\n)([0-9A-Fa-f]+)[^\r\n]*\r\n")


class StreamFailed(Exception):
    """The peer did not deliver what was asked."""


@dataclass(slots=True)
class Reply:
    """One stream. Times are `perf_counter` seconds; `arrivals` holds one time per event that carried text."""

    sent_at: float
    arrivals: list[float] = field(default_factory=list)
    text: str = ""
    completion_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    finish_reason: str | None = None

    @property
    def ttft(self) -> float:
        return self.arrivals[0] - self.sent_at

    @property
    def ended_at(self) -> float:
        return self.arrivals[-1]

    @property
    def gaps(self) -> list[float]:
        """Seconds between neighbouring tokens as a reader sees them."""
        return [later - earlier for earlier, later in pairwise(self.arrivals)]

    @property
    def rate(self) -> float:
        """Tokens per second after the first one; 0 when no second one came."""
        seconds = self.arrivals[-1] - self.arrivals[0] if self.arrivals else 0.0
        return (self.completion_tokens - 1) / seconds if seconds else 0.0


@dataclass(slots=True)
class Ask:
    """One request: `body` is merged over the completion defaults (None drops one); `delay`: seconds before it is sent.

    `exact`: the peer must deliver max_tokens. `limit_seconds`: leave after so long with what has come.
    """

    prompt: str
    max_tokens: int
    body: dict[str, Any] = field(default_factory=dict)
    delay: float = 0.0
    exact: bool = True
    limit_seconds: float | None = None


async def stream_all(url: str, asks: Sequence[Ask]) -> list[Reply]:
    """Connect every stream first, send each after its delay, and wait for all; raises StreamFailed on a lost token."""
    wires = [await _connect(url) for _ in asks]
    try:
        return await asyncio.gather(*(_one(wire, url, ask) for wire, ask in zip(wires, asks, strict=True)))
    finally:
        for wire in wires:
            wire.close()


async def stream_one(url: str, ask: Ask) -> Reply:
    return (await stream_all(url, [ask]))[0]


async def stream_beside(url: str, running: Sequence[Ask], late: Ask) -> tuple[list[Reply], Reply]:
    """`late` is sent after its delay while `running` stream; these are left as soon as it has ended."""
    wires = [await _connect(url) for _ in running]
    tasks = [
        asyncio.create_task(_one(wire, url, replace(ask, exact=False)))
        for wire, ask in zip(wires, running, strict=True)
    ]
    try:
        reply = await stream_one(url, late)
        for wire in wires:
            wire.close()
        return await asyncio.gather(*tasks), reply
    finally:
        for wire, task in zip(wires, tasks, strict=True):
            wire.close()
            task.cancel()


async def _one(wire: _Wire, url: str, ask: Ask) -> Reply:
    request = _request(url, ask)
    if ask.delay:
        await asyncio.sleep(ask.delay)
    wire.send(request)
    try:
        await asyncio.wait_for(wire.finished, ask.limit_seconds or LONGEST_SECONDS)
    except TimeoutError as exc:
        if ask.limit_seconds is None:
            raise StreamFailed(f"a stream did not end within {LONGEST_SECONDS:.0f} s") from exc
    return _reply(wire, ask)


class _Wire(asyncio.Protocol):
    """One connection; keeps (arrival time, bytes) and looks only for the end of the stream."""

    def __init__(self) -> None:
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.pieces: list[bytes] = []
        self.times: list[float] = []
        self.sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.times.append(time.perf_counter())
        self.pieces.append(data)
        if data.endswith(b"0\r\n\r\n") or b"[DONE]" in data:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def send(self, request: bytes) -> None:
        assert self._transport is not None
        self.sent_at = time.perf_counter()
        self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _end(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)


async def _connect(url: str) -> _Wire:
    parts = urlsplit(url)
    _, wire = await asyncio.get_running_loop().create_connection(_Wire, parts.hostname or "", parts.port or 80)
    return wire


def _request(url: str, ask: Ask) -> bytes:
    parts = urlsplit(url)
    body = {
        "prompt": ask.prompt,
        "max_tokens": ask.max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        **ask.body,
    }
    payload = json.dumps({name: value for name, value in body.items() if value is not None}).encode()
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Accept: text/event-stream\r\nConnection: close\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload


def _reply(wire: _Wire, ask: Ask) -> Reply:
    raw = b"".join(wire.pieces)
    head, _, rest = raw.partition(b"\r\n\r\n")
    if raw and head.split(b" ", 2)[1:2] != [b"200"]:
        raise StreamFailed(f"answered {raw[:600]!r}")
    start = len(head) + 4
    body, origin = _dechunk(rest, start) if b"chunked" in head.lower() else (rest, [(0, start)])
    ends = list(accumulate(len(piece) for piece in wire.pieces))
    reply = Reply(sent_at=wire.sent_at)
    texts: list[str] = []
    counted = None
    for event, end in _events(body):
        if "error" in event and "choices" not in event:
            raise StreamFailed(f"error event {event['error']}")
        if usage := event.get("usage"):
            counted = usage["completion_tokens"]
            reply.prompt_tokens = usage["prompt_tokens"]
            reply.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        for choice in event.get("choices") or ():
            reply.finish_reason = choice.get("finish_reason") or reply.finish_reason
            if text := choice.get("text"):
                texts.append(text)
                reply.arrivals.append(wire.times[bisect_left(ends, _raw_offset(end, origin))])
    reply.text = "".join(texts)
    reply.completion_tokens = len(reply.arrivals) if counted is None else counted
    _check(reply, ask)
    return reply


def _check(reply: Reply, ask: Ask) -> None:
    """Every token delivered: as many as asked for, and about as many events (a character may take several tokens)."""
    if not ask.exact or (ask.limit_seconds is not None and reply.finish_reason is None):
        return
    if reply.completion_tokens != ask.max_tokens or reply.finish_reason != "length":
        raise StreamFailed(f"{reply.completion_tokens} of {ask.max_tokens} tokens, finish reason {reply.finish_reason}")
    if not reply.arrivals or len(reply.arrivals) < 0.5 * ask.max_tokens:
        raise StreamFailed(f"{len(reply.arrivals)} events for {ask.max_tokens} tokens")


def _dechunk(raw: bytes, base: int) -> tuple[bytes, list[tuple[int, int]]]:
    """The body without HTTP chunk framing, and (body offset, raw offset) of each chunk's start."""
    body = bytearray()
    origin: list[tuple[int, int]] = []
    at = 0
    while match := CHUNK_SIZE.match(raw, at):
        size = int(match[1], 16)
        if size == 0:
            break
        origin.append((len(body), base + match.end()))
        body += raw[match.end() : match.end() + size]
        at = match.end() + size
    return bytes(body), origin


def _raw_offset(end: int, origin: list[tuple[int, int]]) -> int:
    """Where in the raw stream the body's byte before `end` has arrived."""
    start, raw = origin[max(0, bisect_left(origin, (end, 0)) - 1)]
    return raw + end - start


def _events(body: bytes) -> list[tuple[dict[str, Any], int]]:
    """(JSON of a data line, body offset of its end) in order."""
    events: list[tuple[dict[str, Any], int]] = []
    at = 0
    while (start := body.find(b"data:", at)) >= 0:
        end = body.find(b"\n", start)
        if end < 0:
            break
        payload = body[start + 5 : end].strip()
        if payload and payload != b"[DONE]":
            events.append((json.loads(payload), end))
        at = end
    return events
