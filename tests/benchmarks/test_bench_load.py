"""The benchmark's own client and arithmetic: a wrong ruler would measure anything."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return pytest.importorskip("load")


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return pytest.importorskip("report")


class Peer:
    """A server on port 0 that sends `events` as SSE in HTTP chunks, cut anywhere into TCP pieces of `cut` bytes."""

    def __init__(self, events: list[str], cut: int, pause: float) -> None:
        self.events, self.cut, self.pause = events, cut, pause
        self.answering: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> str:
        self.server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/v1/completions"

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for task, writer in self.answering.items():  # a client that has enough leaves it in mid-sentence
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*self.answering, return_exceptions=True)
        await self.server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.answering[task] = writer
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for event in self.events:
            await asyncio.sleep(self.pause)
            line = f"data: {event}\n\n".encode()
            framed = b"%x\r\n%b\r\n" % (len(line), line)
            for at in range(0, len(framed), self.cut):
                writer.write(framed[at : at + self.cut])
                await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()


def text_events(texts: list[str], counted: int) -> list[str]:
    pieces = [{"choices": [{"text": text, "finish_reason": None}]} for text in texts]
    last = {
        "choices": [{"text": "", "finish_reason": "length"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": counted},
    }
    return [*(json.dumps(piece, ensure_ascii=False) for piece in pieces), json.dumps(last), "[DONE]"]


@pytest.mark.parametrize("cut", [1, 7, 4096])
async def test_a_reply_is_the_same_however_its_bytes_are_cut(load: ModuleType, cut: int) -> None:
    async with Peer(text_events(["Grüße ", "0\r\n", "fünf"], 3), cut, 0.02) as url:
        reply = await load.stream_one(url, load.Ask("hello", 3))
    assert reply.text == "Grüße 0\r\nfünf"
    assert (reply.completion_tokens, reply.prompt_tokens, len(reply.gaps)) == (3, 5, 2)
    assert reply.ttft >= 0.02 and all(gap >= 0.015 for gap in reply.gaps)


async def test_a_lost_token_fails_the_run(load: ModuleType) -> None:
    async with Peer(text_events(["a", "b"], 2), 4096, 0) as url:
        with pytest.raises(load.StreamFailed, match="2 of 3 tokens"):
            await load.stream_one(url, load.Ask("hello", 3))


async def test_a_limit_keeps_what_came(load: ModuleType) -> None:
    async with Peer(text_events(["a", "b", "c", "d"], 4), 4096, 0.2) as url:
        reply = await load.stream_one(url, load.Ask("hello", 4, limit_seconds=0.5))
    assert reply.text == "ab"


def test_claims_pair_rounds_and_take_the_median(report: ModuleType) -> None:
    ours = [{"tokens_per_second": value, "ttft_median": 1.0, "ttft_worst": 1.0} for value in (10.0, 20.0, 30.0)]
    theirs = [{"tokens_per_second": value, "ttft_median": 1.0, "ttft_worst": 2.0} for value in (10.0, 40.0, 15.0)]
    verdicts = {one.claim: one for one in report.judge({"fresh 4": {"xin": ours, "llama.cpp server": theirs}})}
    speed = verdicts["fresh 4: tokens_per_second, xin / llama.cpp server"]
    assert (speed.value, speed.interval, speed.rounds, speed.met) == (1.0, (0.5, 2.0), 3, False)
    assert verdicts["fresh 4: ttft_worst, xin / llama.cpp server"].value == 0.5
