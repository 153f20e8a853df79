"""The door at which newcomers knock: open only while digits or a token are, on a port of its own."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xin.errors import Busy, Forbidden, InternalError, Unreachable, XinError
from xin.node.trust import token
from xin.node.trust.channel import FAILURES, Channel, Wrong, ask, offer
from xin.node.trust.lan_door import listening
from xin.node.trust.meeting import meet
from xin.node.trust.trust import Trust
from xin.protocol.trust import Joined, Pairing

DIGITS = "digits"
DIGITS_SECONDS = 120.0
TRIES = 3
MEETING_SECONDS = 20.0
CONNECT_SECONDS = 3.0
MOST_AT_ONCE = 32
MOST_TOKENS = 16
log = logging.getLogger("xin.node")


@dataclass(slots=True)
class _Offer:
    secret: str
    ends_at: float  # of time.monotonic
    tries: int


class PairingDoor:
    """`close` ends what is open, for good or until the next `open_…`. `addresses`: what others are told to knock at."""

    def __init__(self, trust: Trust, host: str, port: int, addresses: Callable[[], Sequence[str]]) -> None:
        self._trust = trust
        self._host = host
        self._port = port
        self._addresses = addresses
        self._offers: dict[str, _Offer] = {}
        self._server: asyncio.Server | None = None
        self._bound = 0
        self._guests: set[asyncio.Task[None]] = set()
        self._opening = asyncio.Lock()
        self._closer: asyncio.TimerHandle | None = None

    async def open_digits(self) -> Pairing:
        """Six digits for one node, which replace those before. They end after two minutes, three tries, or success."""
        digits = f"{secrets.randbelow(1_000_000):06d}"
        addresses = await self._open(DIGITS, _Offer(digits, time.monotonic() + DIGITS_SECONDS, TRIES))
        return Pairing(secret=digits, addresses=addresses, port=self._bound, seconds=DIGITS_SECONDS)

    async def open_token(self, seconds: float) -> Pairing:
        """A token that lets in whoever shows it in time, or until the cluster's authority changes."""
        if len(self._offers) >= MOST_TOKENS:
            raise Busy(f"{MOST_TOKENS} tokens are open", "use one of them; xin cluster rotate ends them all")
        which, secret = secrets.token_hex(4), secrets.token_urlsafe(24)
        addresses = await self._open(which, _Offer(secret, time.monotonic() + seconds, 1_000_000))
        made = token.written(token.Token(which, secret, self._bound, addresses[: token.MOST_ADDRESSES]))
        return Pairing(secret=made, addresses=addresses, port=self._bound, seconds=seconds)

    async def close(self) -> None:
        """Digits and tokens are worth nothing from now on."""
        self._offers.clear()
        await self._shut()
        for guest in self._guests:
            guest.cancel()
        await asyncio.gather(*self._guests, return_exceptions=True)

    async def _open(self, which: str, made: _Offer) -> list[str]:
        addresses = list(await asyncio.to_thread(self._addresses))
        if not addresses:
            raise InternalError("this host has no address that others could reach", "connect it to a network")
        async with self._opening:
            if self._server is None:
                try:
                    door = await asyncio.to_thread(listening, self._host, self._port)
                except OSError as exc:
                    raise InternalError(f"cannot open a port for pairing: {exc.strerror}") from exc
                self._bound = door.getsockname()[1]
                self._server = await asyncio.start_server(self._receive, sock=door)
            self._offers[which] = made
        self._schedule_close()
        return addresses

    def _schedule_close(self) -> None:
        """Shut the door when the last offer ends."""
        if self._closer is not None:
            self._closer.cancel()
            self._closer = None
        now = time.monotonic()
        self._offers = {which: made for which, made in self._offers.items() if made.ends_at > now and made.tries > 0}
        if not self._offers:
            server, self._server = self._server, None
            if server is not None:
                server.close()
            return
        wait = max(made.ends_at for made in self._offers.values()) - now
        self._closer = asyncio.get_running_loop().call_later(wait + 0.05, self._schedule_close)

    async def _shut(self) -> None:
        async with self._opening:
            self._schedule_close()

    def _secret_of(self, which: str) -> str | None:
        made = self._offers.get(which)
        return made.secret if made is not None and made.ends_at > time.monotonic() and made.tries > 0 else None

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        remote = str((writer.get_extra_info("peername") or ("",))[0]).removeprefix("::ffff:")
        self._guests.add(task)
        try:
            if len(self._guests) <= MOST_AT_ONCE:
                async with asyncio.timeout(MEETING_SECONDS):
                    await self._meet(reader, writer, remote)
        except FAILURES as exc:
            log.warning("pairing: %s did not come in: %s", remote, exc.message if isinstance(exc, XinError) else exc)
        finally:
            self._guests.discard(task)
            self._schedule_close()
            writer.close()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, remote: str) -> None:
        channel, which = await offer(reader, writer, self._secret_of)
        await self._check(channel, which)
        met = await meet(channel, self._trust, asks=False, remote=remote)
        if which == DIGITS:
            self._offers.pop(DIGITS, None)
        log.info("paired with %s (%s, %s)", met.node_name, met.node_id, remote)

    async def _check(self, channel: Channel, which: str) -> None:
        """However many guess at once, no more than so many guesses are looked at."""
        if self._secret_of(which) is None:
            raise Wrong("no such offer is open")
        made = self._offers[which]
        made.tries -= 1
        await channel.check()
        made.tries += 1
        await channel.prove()


async def knock(trust: Trust, addresses: Sequence[str], port: int, which: str, secret: str) -> Joined:
    """The other end of it. Raises Unreachable, Forbidden for a wrong or ended secret, Conflict."""
    reader, writer, remote = await _connected(addresses, port)
    try:
        async with asyncio.timeout(MEETING_SECONDS):
            channel = await _asked(reader, writer, which, secret)
            return await meet(channel, trust, asks=True, remote=remote)
    except (OSError, EOFError, TimeoutError) as exc:
        raise Unreachable(f"{remote} hung up before the pairing was done", "see the log of the node there") from exc
    finally:
        writer.close()


async def _asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, which: str, secret: str) -> Channel:
    try:
        return await ask(reader, writer, which, secret)
    except (Wrong, EOFError, ConnectionError) as exc:
        raise Forbidden(
            "the other node did not take this secret: it is wrong, or no longer open",
            "open pairing there again: xin pair, or xin cluster token",
        ) from exc


async def _connected(addresses: Sequence[str], port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    for address in addresses:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(address, port)
            return reader, writer, address
        except (OSError, TimeoutError, ValueError) as exc:
            log.info("pairing: %s port %d: %r", address, port, exc)
    shown = ", ".join(addresses)
    raise Unreachable(f"nobody waits for pairing at {shown} port {port}", "open it there first: xin pair")
