"""Server-sent events: bytes to events (WHATWG HTML 9.2.6: CR, LF and CRLF end a line, comments are skipped)."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"


def encode(data: bytes) -> bytes:
    """One event of one data line; `data` must hold no newline (JSON does not)."""
    return b"data: " + data + b"\n\n"


class Decoder:
    """Feed chunks as they come; get the data of each event that has ended."""

    def __init__(self) -> None:
        self._buffer = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        self._buffer += chunk
        events: list[bytes] = []
        *lines, self._buffer = self._lines()
        for line in lines:
            if not line and self._data:
                events.append(b"\n".join(self._data))
                self._data = []
            elif line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
        return events

    def _lines(self) -> list[bytes]:
        # A trailing CR may be half of a CRLF: keep it for the next chunk.
        held = b"\r" if self._buffer.endswith(b"\r") else b""
        body = self._buffer[: len(self._buffer) - len(held)]
        lines = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        lines[-1] += held
        return lines


def decode(chunks: Iterable[bytes]) -> Iterator[bytes]:
    decoder = Decoder()
    for chunk in chunks:
        yield from decoder.feed(chunk)


async def adecode(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    decoder = Decoder()
    async for chunk in chunks:
        for event in decoder.feed(chunk):
            yield event
