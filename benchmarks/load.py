"""A streaming HTTP client that costs next to nothing while it measures: pieces are stamped on arrival, parsed afterwards."""

from __future__ import annotations

import asyncio
import json
import re
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

CHUNK_SIZE = re.compile(rb"(?:\A|\r\n)([0-9A-Fa-f]+)[^\r\n]*\r\n")


class StreamFailed(Exception):
    """The peer did not deliver what was asked."""


@dataclass(slots=True)
class Reply:
    """One finished stream. Times are `perf_counter` seconds; `arrivals` holds one time per event that carried text."""

    sent_at: float
    arrivals: list[float]
    text: str
    completion_tokens: int
    prompt_tokens: int
    cached_tokens: int | None
    finish_reason: str | None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def ttft(self) -> float:
        return self.arrivals[0] - self.sent_at

    @property
    def ended_at(self) -> float:
        return self.arrivals[-1]

    @property
    def gaps(self) -> list[float]:
        """Seconds between neighbouring tokens as a reader sees them."""
        return [later - earlier for earlier, later in zip(self.arrivals, self.arrivals[1:], strict=False)]

    @property
    def step(self) -> float:
        """Seconds per token after the first."""
        return (self.arrivals[-1] - self.arrivals[0]) / (self.completion_tokens - 1)


@dataclass(slots=True)
class Ask:
    """One request: `body` is merged over the completion defaults; `delay` seconds pass before it is sent."""

    prompt: str
    max_tokens: int
    body: dict[str, Any] = field(default_factory=dict)
    delay: float = 0.0


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


async def _one(wire: _Wire, url: str, ask: Ask) -> Reply:
    request = _request(url, ask)
    if ask.delay:
        await asyncio.sleep(ask.delay)
    wire.send(request)
    await wire.finished
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
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

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
    _, wire = await asyncio.get_running_loop().create_connection(_Wire, parts.hostname, parts.port)
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
    status = head.split(b" ", 2)[1:2]
    if status != [b"200"]:
        raise StreamFailed(f"answered {raw[:600]!r}")
    body, origin = _dechunk(rest, len(head) + 4) if b"chunked" in head.lower() else (rest, [(0, len(head) + 4)])
    ends: list[int] = []
    total = 0
    for piece in wire.pieces:
        total += len(piece)
        ends.append(total)
    arrivals: list[float] = []
    texts: list[str] = []
    usage: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    finish = None
    for event, end in _events(body):
        if "error" in event and "choices" not in event:
            raise StreamFailed(f"error event {event['error']}")
        usage = event.get("usage") or usage
        extra.update({name: event[name] for name in ("timings",) if name in event})
        for choice in event.get("choices") or ():
            finish = choice.get("finish_reason") or finish
            if text := choice.get("text") or (choice.get("delta") or {}).get("content"):
                texts.append(text)
                arrivals.append(wire.times[bisect_left(ends, _raw_offset(end, origin))])
    reply = Reply(
        sent_at=wire.sent_at,
        arrivals=arrivals,
        text="".join(texts),
        completion_tokens=usage.get("completion_tokens", len(arrivals)),
        prompt_tokens=usage.get("prompt_tokens", 0),
        cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        finish_reason=finish,
        extra=extra,
    )
    _check(reply, ask)
    return reply


def _check(reply: Reply, ask: Ask) -> None:
    """Every token delivered: the count is the one asked for, and no more events are missing than split characters explain."""
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
        end = len(body) if end < 0 else end
        payload = body[start + 5 : end].strip()
        if payload and payload != b"[DONE]":
            events.append((json.loads(payload), end))
        at = end
    return events
