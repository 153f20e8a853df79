"""The parts of trust by themselves: the authority, papers, tokens, and the channel that a secret makes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509

from xin.errors import BadRequest, Conflict, XinError
from xin.node.trust import authority, channel, token
from xin.node.trust.meeting import direction
from xin.node.trust.papers import Drawer, Papers
from xin.protocol.trust import Card, issuer_name, tls_name

ANT, BEE = "a" * 16, "b" * 16


def test_a_node_is_certified_for_its_id_by_this_cluster() -> None:
    passport = authority.found()
    pem = authority.issue(passport, ANT)
    made = x509.load_pem_x509_certificate(pem.encode())
    made.verify_directly_issued_by(x509.load_pem_x509_certificate(passport.certificate.encode()))
    assert made.issuer.rfc4514_string() == f"CN={issuer_name(authority.cluster_id(passport))}"
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [tls_name(ANT)]
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert authority.cluster_id(authority.found()) != authority.cluster_id(passport)


def test_what_is_no_authority_is_refused() -> None:
    one, other = authority.found(), authority.found()
    one.key = other.key
    with pytest.raises(BadRequest):
        authority.check(one)
    other.certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    with pytest.raises(BadRequest):
        authority.check(other)


def test_papers_are_the_same_after_a_restart(tmp_path: Path) -> None:
    drawer = Drawer(tmp_path / "cluster", ANT)
    assert drawer.load() is None
    put = drawer.put(authority.found())
    again = Drawer(tmp_path / "cluster", ANT).load()
    assert again is not None
    assert (again.cluster_id, again.passport) == (put.cluster_id, put.passport)
    (tmp_path / "cluster" / "cluster.json").write_text("{")
    assert drawer.load() is None
    drawer.empty()
    assert not (tmp_path / "cluster").exists()


async def shake(server: Papers, client: Papers, name: str) -> bool:
    """Whether both ends take the other's certificate."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server.server) as listening:
        port = listening.sockets[0].getsockname()[1]
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client.client, server_hostname=name)
            said = await reader.read()
            writer.close()
        except (ssl.SSLError, ConnectionError):
            return False
        return said == b"hello"


async def test_nodes_of_one_cluster_speak_and_others_do_not(tmp_path: Path) -> None:
    passport, foreign = authority.found(), authority.found()
    ant, bee = (Drawer(tmp_path / node, node).put(passport) for node in (ANT, BEE))
    stranger = Drawer(tmp_path / "stranger", BEE).put(foreign)
    assert await shake(ant, bee, tls_name(ANT))
    assert not await shake(ant, bee, tls_name(BEE)), "it is not the node that was meant"
    assert not await shake(ant, stranger, tls_name(ANT))
    assert not await shake(stranger, ant, tls_name(BEE))


def test_a_token_is_read_as_it_was_written_and_not_otherwise() -> None:
    made = token.Token("00ff", "s" * 32, 9995, ["10.0.0.1", "fe80::1"])
    text = token.written(made)
    assert token.read(text) == made
    for damaged in (text[:-8], text.lower(), "XIN2" + text[4:], text + "!", ""):
        with pytest.raises(BadRequest) as told:
            token.read(damaged)
        assert "s" * 16 not in told.value.message


LONE, FOUNDER, MEMBER = (None, 0), ("c" * 16, 0), ("d" * 16, 2)


@pytest.mark.parametrize(
    ("asks", "offers", "who_joins"),
    [
        (LONE, LONE, "asks"), (LONE, FOUNDER, "asks"), (LONE, MEMBER, "asks"), (FOUNDER, MEMBER, "asks"),
        (FOUNDER, LONE, "offers"), (MEMBER, LONE, "offers"), (MEMBER, FOUNDER, "offers"), (MEMBER, MEMBER, "asks"),
    ],
)  # fmt: skip
def test_who_joins_whom(asks: tuple[str | None, int], offers: tuple[str | None, int], who_joins: str) -> None:
    one = Card(id=ANT, name="ant", cluster_id=asks[0], others=asks[1])
    other = Card(id=BEE, name="bee", cluster_id=offers[0], others=offers[1])
    assert direction(one, other, asks=True) == ("joined" if who_joins == "asks" else "admitted")
    assert direction(other, one, asks=False) == ("admitted" if who_joins == "asks" else "joined")


def test_nobody_is_taken_from_a_cluster_with_others_in_it() -> None:
    one = Card(id=ANT, name="ant", cluster_id="c" * 16, others=1)
    other = Card(id=BEE, name="bee", cluster_id="d" * 16, others=1)
    for asks in (True, False):
        with pytest.raises(Conflict):
            direction(one, other, asks=asks)


@asynccontextmanager
async def two_ends(
    offers: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await offers(reader, writer)
        except (XinError, EOFError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(run, "127.0.0.1", 0) as listening:
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname()[:2])
        yield reader, writer
        writer.close()


async def test_the_same_secret_makes_a_channel() -> None:
    async def offers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made, which = await channel.offer(reader, writer, {"digits": "123456"}.get)
        await made.check()
        await made.prove()
        await made.send(await made.receive(Card))
        assert which == "digits"

    async with two_ends(offers) as (reader, writer):
        made = await channel.ask(reader, writer, "digits", "123456")
        card = Card(id=ANT, name="ant")
        await made.send(card)
        assert await made.receive(Card) == card


@pytest.mark.parametrize(("which", "secret"), [("digits", "123457"), ("other", "123456")])
async def test_another_secret_makes_none(which: str, secret: str) -> None:
    async def offers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made, _ = await channel.offer(reader, writer, {"digits": "123456"}.get)
        await made.check()
        raise AssertionError("a wrong secret was taken")

    async with two_ends(offers) as (reader, writer):
        with pytest.raises((channel.Wrong, EOFError)):
            await channel.ask(reader, writer, which, secret)


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x04\x93\x01\xa0\xc0", b"\xff" * 64, bytes(64)]
)
async def test_noise_at_the_door_is_hung_up_on(sent: bytes) -> None:
    heard: list[BaseException] = []

    async def offers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await channel.offer(reader, writer, {"digits": "123456"}.get)
        except BaseException as exc:
            heard.append(exc)
            raise

    async with two_ends(offers) as (reader, writer):
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == b""
    assert isinstance(heard[0], channel.FAILURES)
