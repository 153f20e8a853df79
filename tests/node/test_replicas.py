"""Several workers of one uid on one node: launched, scaled live, drained, brought back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import msgspec
import pytest
from managing import alive, answer, managed, rest, until

from xin.errors import BadRequest, LoadFailed, ModelNotFound
from xin.node.manager import Manager
from xin.protocol.node import LaunchRequest
from xin.worker.frames import Generate


@pytest.fixture
async def manager() -> AsyncIterator[Manager]:
    async with managed() as manager:
        yield manager


def parrot(count: int = 1, **options: object) -> LaunchRequest:
    return LaunchRequest(model_name="echo", model_uid="parrot", replica=count, options=options)


def states(manager: Manager) -> dict[str, str]:
    return {one.model_uid: one.state for one in manager.instances()}


def body(*texts: str) -> bytes:
    return msgspec.json.encode({"model": "parrot", "messages": [{"role": "user", "content": one} for one in texts]})


async def test_as_many_workers_as_were_asked_for_share_the_requests(manager: Manager):
    first = await manager.launch(parrot(3))
    assert first.replica == 3
    assert states(manager) == {"parrot": "ready", "parrot@2": "ready", "parrot@3": "ready"}
    assert len({one.worker.pid for one in manager.instances()}) == 3
    assert [one.served_uid for one in manager.instances()] == ["parrot"] * 3
    used = set()
    async with manager.lease("parrot") as a, manager.lease("parrot") as b, manager.lease("parrot") as c:
        for lease in (a, b, c):
            used.add(lease.instance.model_uid)
            assert await answer(lease.handle, "hi") == "hi"
    assert used == {"parrot", "parrot@2", "parrot@3"}
    async with manager.lease("parrot@2") as lease:  # one of them can be named
        assert lease.instance.model_uid == "parrot@2"


async def test_a_conversation_returns_to_the_replica_that_has_read_it(manager: Manager):
    await manager.launch(parrot(2))
    said = "a story of whales " * 40
    async with manager.lease("parrot"), manager.lease("parrot", body(said)) as lease:
        home = lease.instance.model_uid
    assert home == "parrot@2"
    for _ in range(3):
        async with manager.lease("parrot", body(said, "go on")) as lease:
            assert lease.instance.model_uid == home
    async with manager.lease("parrot", body("something else")) as lease:
        assert lease.instance.model_uid == "parrot"


async def test_a_leaving_replica_finishes_its_stream_and_then_ends(manager: Manager):
    await manager.launch(parrot(2, tokens_per_second=40))
    async with manager.lease("parrot@2") as lease:
        pid = lease.instance.worker.pid
        stream = await lease.handle.generate(Generate(0, prompt="word " * 40))
        await stream.next_batch()
        assert await manager.scale("parrot", 1) == 1
        assert states(manager) == {"parrot": "ready", "parrot@2": "stopping"}
        async with manager.lease("parrot") as other:
            assert other.instance.model_uid == "parrot"
        assert (await rest(stream)).split() == ["word"] * 39
        assert alive(pid)
    await until(lambda: states(manager) == {"parrot": "ready"})
    assert not alive(pid)
    assert manager.get("parrot").replica == 1


async def test_a_replica_joins_while_streams_run(manager: Manager):
    await manager.launch(parrot(tokens_per_second=40))
    async with manager.lease("parrot") as lease:
        stream = await lease.handle.generate(Generate(0, prompt="word " * 40))
        await manager.scale("parrot", 2)
        async with manager.lease("parrot") as other:
            assert other.instance.model_uid == "parrot@2"
        assert (await rest(stream)).split() == ["word"] * 40


async def test_a_launch_of_more_adds_and_one_of_fewer_leaves_them(manager: Manager):
    await manager.launch(parrot(2))
    await manager.launch(parrot(3))
    assert len(states(manager)) == 3
    await manager.launch(parrot(1))
    await manager.launch(LaunchRequest(model_name="echo"))
    assert len(states(manager)) == 3


async def test_all_leave_when_none_shall_be_here(manager: Manager):
    await manager.launch(parrot(2, tokens_per_second=40))
    async with manager.lease("parrot") as lease:
        stream = await lease.handle.generate(Generate(0, prompt="word " * 20))
        assert await manager.scale("parrot", 0) >= 1
        async with manager.lease("parrot"):  # who comes too late is answered while one is there
            pass
        assert (await rest(stream)).split() == ["word"] * 20
    await until(lambda: not manager.instances())
    with pytest.raises(ModelNotFound):
        await manager.scale("parrot", 1)


async def test_terminate_ends_all_and_one_of_them_by_its_own_name(manager: Manager):
    await manager.launch(parrot(3))
    await manager.terminate("parrot@2")
    assert set(states(manager)) == {"parrot", "parrot@3"}
    assert manager.get("parrot").replica == 2
    await manager.scale("parrot", 3)
    assert set(states(manager)) == {"parrot", "parrot@2", "parrot@3"}
    await manager.terminate("parrot")
    assert states(manager) == {}


async def test_the_number_outlives_a_restart():
    async with managed() as manager:
        await manager.launch(parrot(2))
        await manager.scale("parrot", 3)
        await manager.terminate("parrot@2")
    async with managed() as manager:
        await until(lambda: [*states(manager).values()] == ["ready", "ready"])
        assert manager.get("parrot").replica == 2
        await manager.scale("parrot", 1)
        await until(lambda: len(states(manager)) == 1)
    async with managed() as manager:
        assert set(states(manager)) == {"parrot"}


async def test_a_killed_replica_leaves_its_requests_to_the_others_and_comes_back(manager: Manager):
    await manager.launch(parrot(2))
    os.kill(manager.get("parrot").worker.pid, signal.SIGKILL)
    await until(lambda: manager.get("parrot").state != "ready")
    async with manager.lease("parrot") as lease:
        assert lease.instance.model_uid == "parrot@2"
    await until(lambda: manager.get("parrot").state == "ready")


async def test_a_leaving_replica_that_dies_is_not_started_again(manager: Manager):
    await manager.launch(parrot(2, tokens_per_second=5))
    async with manager.lease("parrot@2") as lease:
        await manager.scale("parrot", 1)
        os.kill(lease.instance.worker.pid, signal.SIGKILL)
        await asyncio.sleep(0.1)
    await until(lambda: states(manager) == {"parrot": "ready"})


async def test_replicas_that_nobody_asks_end_together():
    async with managed(keep_alive=0.3) as manager:
        await manager.launch(parrot(2), explicit=False)
        async with manager.lease("parrot@2"):
            await asyncio.sleep(0.6)
            assert len(states(manager)) == 2  # the first is idle, and stays for the other's sake
        await until(lambda: not manager.instances(), 3)


async def test_what_is_no_number_of_replicas_is_refused_by_name(manager: Manager):
    for count in (-1, 0, 65):
        with pytest.raises(BadRequest) as caught:
            await manager.launch(parrot(count))
        assert caught.value.param == "replica"
    await manager.launch(parrot(2))
    for uid, count, param in (("parrot", -1, "replica"), ("parrot", 65, "replica"), ("parrot@2", 2, "model_uid")):
        with pytest.raises(BadRequest) as caught:
            await manager.scale(uid, count)
        assert caught.value.param == param
    assert len(states(manager)) == 2


async def test_a_launch_that_fails_is_told_for_all_of_it(manager: Manager):
    with pytest.raises(LoadFailed, match="bad weights"):
        await manager.launch(parrot(2, fail_load="bad weights"))
    await until(lambda: set(states(manager).values()) == {"failed"})
    await manager.launch(parrot(2))  # the failed ones give their uids up
    assert states(manager) == {"parrot": "ready", "parrot@2": "ready"}
