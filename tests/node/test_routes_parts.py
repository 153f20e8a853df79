"""The parts of the routes that a whole node shows too rarely."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import msgspec
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from xin.errors import OutOfMemory
from xin.node.events import BACKLOG, EventHub
from xin.node.routes import event_stream
from xin.node.routes.chunks import ChatChunks, CompletionChunks, Head
from xin.node.routes.logprobs import FLOOR, LegacyLogprobs, chat_logprobs, mean_logprob
from xin.protocol import sse
from xin.protocol.node import Event, Instance
from xin.protocol.openai import ChatCompletionChunk, Completion
from xin.worker.frames import Delta, TokenLogprob

INSTANCE = Instance(
    model_uid='m"content":""',
    model_name="m",
    model_engine="echo",
    model_format="echo",
    quantization="none",
    state="ready",
)


async def serve(handler) -> tuple[web.AppRunner, str]:
    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/"


async def test_an_idle_stream_is_pinged_and_its_error_is_its_last_event(monkeypatch):
    monkeypatch.setattr(event_stream, "PING_SECONDS", 0.1)

    async def handler(request: web.Request) -> web.StreamResponse:
        async with event_stream.event_stream(request) as stream:
            await stream.write(sse.encode(b"1"))
            await asyncio.sleep(0.35)
            raise OutOfMemory("no memory left")
        return stream.response

    runner, url = await serve(handler)
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        body = await response.read()
    await runner.cleanup()
    assert body.startswith(b"data: 1\n\n")
    assert 2 <= body.count(sse.PING) <= 4
    *_, last = sse.decode([body])
    assert json.loads(last)["error"]["code"] == "out_of_memory"


async def test_a_defect_in_mid_stream_is_told_without_its_details(caplog):
    async def handler(request: web.Request) -> web.StreamResponse:
        async with event_stream.event_stream(request) as stream:
            raise ZeroDivisionError("secret")
        return stream.response

    runner, url = await serve(handler)
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        body = await response.text()
    await runner.cleanup()
    assert "internal error" in body
    assert "secret" not in body
    assert "ZeroDivisionError: secret" in caplog.text


async def test_a_subscriber_that_sleeps_is_told_to_come_again():
    hub = EventHub()
    with hub.subscribe() as slow:
        for _ in range(BACKLOG + 5):
            hub.publish(Event(type="instance", at=0.0))
        seen = [event.type async for event in slow]
    assert seen == ["resync"]


async def test_samples_have_their_own_watchers():
    hub = EventHub()
    told: list[int] = []
    hub.on_watchers.append(told.append)
    with hub.subscribe() as plain, hub.subscribe(samples=True) as watching:
        assert hub.sample_watchers == 1
        hub.publish(Event(type="samples", at=0.0))
        hub.publish(Event(type="peer", at=0.0))
        assert [event.type for event in plain.drain()] == ["peer"]
        assert [event.type for event in watching.drain()] == ["samples", "peer"]
    assert told == [1, 0]


def test_a_character_split_over_tokens_keeps_the_offsets_right():
    pieces = [b"a", b"\xe2\x82", b"\xac", b"!"]
    shape = LegacyLogprobs(0).take([TokenLogprob(i, piece, -1.0) for i, piece in enumerate(pieces)])
    assert shape.tokens == ["a", "bytes:\\xe2\\x82", "bytes:\\xac", "!"]
    assert shape.text_offset == [0, 1, 1, 2]
    assert shape.top_logprobs is None


def test_no_logprob_is_infinite():
    token = TokenLogprob(1, b"x", float("-inf"), [(1, b"x", float("-inf")), (2, b"y", -0.5)])
    (entry,) = chat_logprobs([token], 2).content
    assert (entry.logprob, entry.top_logprobs[1].logprob) == (FLOOR, -0.5)
    assert mean_logprob([]) == FLOOR


@given(st.text())
def test_the_short_way_to_a_chunk_gives_what_the_long_way_gives(text: str):
    for chunks, struct in (
        (ChatChunks(Head("chatcmpl", INSTANCE), usage=True), ChatCompletionChunk),
        (CompletionChunks(Head("cmpl", INSTANCE), usage=False), Completion),
    ):
        sent = list(sse.decode([chunks.encode(Delta(1, 0, "first")), chunks.encode(Delta(1, 0, text))]))
        chunk = msgspec.json.decode(sent[-1], type=struct)
        choice = chunk.choices[0]
        assert (choice.delta.content if struct is ChatCompletionChunk else choice.text) == text
        assert chunk.model == INSTANCE.model_uid
        assert msgspec.json.decode(sent[-1]) == msgspec.json.decode(msgspec.json.encode(chunk))
