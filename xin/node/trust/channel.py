"""Two ends that share a short secret get a sealed channel: SPAKE2 (as in RFC 9382), HKDF-SHA256, then AES-256-GCM.

Whoever does not know the secret learns nothing, and may try one guess a connection.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from xin.errors import BadRequest, Forbidden, XinError

VERSION = 1
MAX_FRAME = 512 * 1024
HELLO_FRAME = 1024
T = TypeVar("T")


class Hello(msgspec.Struct):
    """`offer`: which open door is meant, "digits" or the id of a token."""

    version: int
    offer: Annotated[str, Meta(max_length=64)]
    message: bytes


class Wrong(Forbidden):
    """The other end does not hold the same secret."""


class Channel:
    """Frames that nobody else can read, alter, replay or reorder."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes, transcript: bytes, *, asks: bool
    ) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._reader = reader
        self._writer = writer
        labels = (b"asks", b"offers") if asks else (b"offers", b"asks")
        self._own_proof, self._other_proof = (_derived(key, transcript, b"proof " + label) for label in labels)
        self._out, self._in = (AESGCM(_derived(key, transcript, b"seal " + label)) for label in labels)
        self._sent = self._received = 0

    async def prove(self) -> None:
        await _write(self._writer, self._own_proof)

    async def check(self) -> None:
        """Raises Wrong unless the other end proves that it has the same key."""
        proof = await _read(self._reader, 64)
        if not hmac.compare_digest(proof, self._other_proof):
            raise Wrong("the secret is wrong")

    async def send(self, value: Any) -> None:
        sealed = self._out.encrypt(self._sent.to_bytes(12, "big"), msgspec.json.encode(value), None)
        self._sent += 1
        await _write(self._writer, sealed)

    async def receive(self, kind: type[T]) -> T:
        """Raises BadRequest for what the other end did not seal, or is no `kind`."""
        from cryptography.exceptions import InvalidTag

        sealed = await _read(self._reader, MAX_FRAME)
        try:
            opened = self._in.decrypt(self._received.to_bytes(12, "big"), sealed, None)
            self._received += 1
            return msgspec.json.decode(opened, type=kind)
        except (InvalidTag, msgspec.MsgspecError) as exc:
            raise BadRequest("the other node sent what this one cannot read", "compare versions: xin nodes") from exc


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, offer: str, secret: str) -> Channel:
    """The end that connects; it proves itself first. Raises Wrong, EOFError when the other end hangs up."""
    state = await asyncio.to_thread(_spake, secret, True)
    sent = state.start_message
    hello = msgspec.msgpack.encode(Hello(VERSION, offer, sent))
    await _write(writer, hello)
    got = await _read(reader, HELLO_FRAME)
    key = await asyncio.to_thread(state.finish, got)
    channel = Channel(reader, writer, key, hello + got, asks=True)
    await channel.prove()
    await channel.check()
    return channel


async def offer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret_of: Callable[[str], str | None]
) -> tuple[Channel, str]:
    """The end that was connected to, and which of its offers was meant. It has not checked the other one yet.

    Raises Wrong for a knock at no open door.
    """
    raw = await _read(reader, HELLO_FRAME)
    try:
        hello = msgspec.msgpack.decode(raw, type=Hello)
    except msgspec.MsgspecError as exc:
        raise BadRequest("not a greeting of a xin node") from exc
    secret = secret_of(hello.offer)
    if hello.version != VERSION or secret is None:
        raise Wrong("no such offer is open")
    state = await asyncio.to_thread(_spake, secret, False)
    key = await asyncio.to_thread(state.finish, hello.message)
    await _write(writer, state.start_message)
    return Channel(reader, writer, key, raw + state.start_message, asks=False), hello.offer


class _Spake:
    """One side of SPAKE2, its first message made."""

    def __init__(self, secret: str, asks: bool) -> None:
        from cryptography.hazmat.primitives.ciphers import aead  # noqa: F401 - loaded here, in a thread, for Channel
        from spake2 import SPAKE2_A, SPAKE2_B

        side = SPAKE2_A if asks else SPAKE2_B
        self._state = side(secret.encode(), idA=b"xin pairing: asks", idB=b"xin pairing: offers")
        self.start_message: bytes = self._state.start()

    def finish(self, message: bytes) -> bytes:
        """The key. Raises BadRequest for what is no message of the other side."""
        from spake2 import SPAKEError

        try:
            key: bytes = self._state.finish(message)
        except (SPAKEError, ValueError, AssertionError) as exc:  # the library asserts what it reads
            raise BadRequest("not a message of SPAKE2") from exc
        return key


def _spake(secret: str, asks: bool) -> _Spake:
    return _Spake(secret, asks)


def _derived(key: bytes, transcript: bytes, label: bytes) -> bytes:
    """HKDF (RFC 5869): both steps, one block of SHA-256."""
    extracted = hmac.new(hashlib.sha256(transcript).digest(), key, "sha256").digest()
    return hmac.new(extracted, b"xin pairing " + label + b"\x01", "sha256").digest()


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(len(data).to_bytes(4, "big") + data)
    await writer.drain()


async def _read(reader: asyncio.StreamReader, most: int) -> bytes:
    size = int.from_bytes(await reader.readexactly(4), "big")
    if size > most:
        raise BadRequest(f"a frame of {size} bytes, at most {most} are read here")
    return await reader.readexactly(size)


FAILURES = (XinError, OSError, EOFError, TimeoutError)
