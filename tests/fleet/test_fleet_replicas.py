"""200 requests over two replicas, of which one node is killed every ten seconds and started again.

With the real model too, for which the machine should have nothing else to do: an answer that takes longer than ten
seconds is hardly ever whole.
"""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
import pytest
from namespaces import ENDPOINT, Host, fleet, missing, pair, until

from xin.client import Client
from xin.protocol.node import LaunchRequest

REQUESTS, TOKENS, AT_ONCE = 200, 64, 4
SECONDS, KILL_SECONDS = 60.0, 10.0
LONGEST_SECONDS = 90.0  # of one request
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    if lacks := missing():
        pytest.skip(f"hosts made of network namespaces need {lacks}")


@dataclass
class Outcome:
    """Of one request. `error`: the code of the one that ended it."""

    tokens: int = 0
    done: bool = False
    error: str = ""
    retried: int = 0
    status: int = 0


async def ask(session: aiohttp.ClientSession, number: int) -> Outcome:
    body = {
        "model": "many",
        "messages": [{"role": "user", "content": f"Number {number}: tell a long story of a whale."}],
        "stream": True,
        "max_tokens": TOKENS,
        "ignore_eos": True,  # every answer is as long as it may be
        "stream_options": {"include_usage": True},
    }
    outcome = Outcome()
    async with session.post(f"{ENDPOINT}/v1/chat/completions", json=body) as answer:
        outcome.status = answer.status
        outcome.retried = int(answer.headers.get("xin-retried", 0))
        if answer.status != 200:
            outcome.error = msgspec.json.decode(await answer.read())["error"]["code"]
            return outcome
        async for line in answer.content:
            if line.startswith(b"data: [DONE]"):
                outcome.done = True
            elif line.startswith(b"data: "):
                event = msgspec.json.decode(line[6:])
                if "error" in event:
                    outcome.error = event["error"]["code"]
                elif event["choices"] and event["choices"][0]["delta"].get("content"):
                    outcome.tokens += 1
    return outcome


async def ask_all() -> list[Outcome]:
    """At least REQUESTS of them, for at least SECONDS, so many at once."""
    outcomes: list[Outcome] = []
    began, numbers = time.monotonic(), iter(range(10_000))

    async def go_on(session: aiohttp.ClientSession) -> None:
        while len(outcomes) < REQUESTS or time.monotonic() - began < SECONDS:
            outcomes.append(await asyncio.wait_for(ask(session, next(numbers)), LONGEST_SECONDS))

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(go_on(session) for _ in range(AT_ONCE)))
    return outcomes


def kill_at_random(victims: list[Host], over: threading.Event, killed: list[str]) -> None:
    while not over.wait(KILL_SECONDS):
        victim = random.choice(victims)
        victim.signal(signal.SIGKILL)
        killed.append(victim.name)
        victim.start()
        victim.ready()


@pytest.mark.parametrize(
    "order",
    [
        {"model_name": "echo", "options": {"tokens_per_second": 30, "ttft_ms": 500, "answer": "whale " * TOKENS}},
        {"model_name": "smollm2", "options": {"context_length": 1024, "n_parallel": AT_ONCE}},
    ],
    ids=["echo", "real"],
)
def test_replicas_are_killed_and_no_request_hangs_or_ends_without_a_word(order: dict[str, Any]) -> None:
    with fleet("ant", "bee", "cat") as (ant, bee, cat):
        pair(ant, bee, cat)
        until(lambda: all(host.sees(2) for host in (ant, bee, cat)))
        for name in ("bee", "cat"):
            ant.ask(lambda client, name=name: client.launch(LaunchRequest(node=name, model_uid="many", **order)))
        until(lambda: replicas(ant) == 2, 60)
        over, killed = threading.Event(), []
        killer = threading.Thread(target=kill_at_random, args=([bee, cat], over, killed))
        killer.start()
        try:
            outcomes = ant._inside.submit(asyncio.run, ask_all()).result(600)
        finally:
            over.set()
            killer.join()
    whole = [one for one in outcomes if one.done and not one.error]
    broken = [one for one in outcomes if one.error]
    unseen = [one for one in whole if one.retried]
    said = (
        f"{len(outcomes)} requests, {len(killed)} kills ({Counter(killed)}): {len(whole)} whole, of them {len(unseen)} "
        f"({len(unseen) / len(outcomes):.1%}) retried unseen; {len(broken)} failed after their first token "
        f"({Counter(one.error for one in broken)})"
    )
    print(said)
    assert len(killed) >= SECONDS / KILL_SECONDS - 2
    assert len(whole) + len(broken) == len(outcomes), said
    assert all(one.tokens > 0 and one.status == 200 for one in broken), [one for one in broken if not one.tokens]
    assert all(one.tokens > TOKENS // 2 for one in whole), said


def replicas(host: Host) -> int:
    return sum(model.replica for model in host.ask(Client.models) if model.id == "many" and model.state == "ready")
