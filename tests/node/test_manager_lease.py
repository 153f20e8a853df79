"""Leases: on demand, keep-alive, drain."""

from __future__ import annotations

import asyncio
import time

import pytest
from managing import alive, answer, echo, managed, rest, until

from xin.errors import Busy, ModelNotFound
from xin.protocol.node import LaunchRequest
from xin.worker.frames import Embed, Generate, Tokenize


async def test_a_known_model_is_launched_by_its_first_request():
    async with managed() as manager:
        async with manager.lease("echo") as lease:
            assert await answer(lease.handle, "hello") == "hello"
        instance = manager.get("echo")
        assert not instance.explicit and instance.keep_alive == 300.0


async def test_requests_that_come_together_share_one_launch():
    async with managed() as manager:

        async def one(n: int) -> str:
            async with manager.lease("echo") as lease:
                return await answer(lease.handle, f"number {n}")

        assert await asyncio.gather(*map(one, range(8))) == [f"number {n}" for n in range(8)]
        assert len(manager.instances()) == 1


async def test_an_unknown_model_is_not_found_and_a_path_is_never_opened(tmp_path):
    async with managed() as manager:
        for name in ("ecko", str(tmp_path / "x.gguf"), "/etc/passwd", "org/repo"):
            with pytest.raises(ModelNotFound) as caught:
                async with manager.lease(name):
                    pass
            assert caught.value.param == "model" and "here" in caught.value.message


async def test_an_idle_model_is_unloaded_and_comes_back():
    async with managed(keep_alive=0.3) as manager:
        async with manager.lease("echo") as lease:
            pid = lease.handle.pid
            await asyncio.sleep(0.6)  # in use: stays
            assert await answer(lease.handle, "still here") == "still here"
        await until(lambda: not manager.instances(), 3)
        assert not alive(pid)
        async with manager.lease("echo") as lease:
            assert await answer(lease.handle, "again") == "again"


async def test_an_explicit_launch_stays_unless_it_gave_a_keep_alive():
    async with managed(keep_alive=0.1) as manager:
        await manager.launch(echo("stays"))
        await manager.launch(LaunchRequest(model_name="echo", model_uid="goes", keep_alive="0.2s"))
        await until(lambda: len(manager.instances()) == 1, 3)
        assert manager.instances()[0].model_uid == "stays"


async def test_an_explicit_launch_of_what_runs_on_demand_keeps_it():
    async with managed(keep_alive=0.3) as manager:
        async with manager.lease("echo"):
            pass
        await manager.launch(echo())
        await asyncio.sleep(0.6)
        assert manager.get("echo").explicit


async def test_too_many_waiting_requests_are_turned_away():
    async with managed(max_waiting=1) as manager:
        await manager.launch(echo(n_parallel=1))
        async with manager.lease("echo"), manager.lease("echo"):
            with pytest.raises(Busy, match="2 requests"):
                async with manager.lease("echo"):
                    pass


async def test_calls_beside_generations():
    async with managed() as manager, manager.lease("echo") as lease:
        assert (await lease.handle.tokenize(Tokenize(0, text="ab"))).tokens == [97, 98]
        assert len((await lease.handle.embed(Embed(0, texts=["a", "b"]))).vectors) == 2


async def test_stop_drains_what_runs_and_refuses_what_comes():
    async with managed() as manager:
        instance = await manager.launch(echo(tokens_per_second=20))
        async with manager.lease("echo") as lease:
            stream = await lease.handle.generate(Generate(0, prompt="a b c d e f g h"))
            stopping = asyncio.create_task(manager.stop(10))
            await asyncio.sleep(0.05)
            with pytest.raises(Busy):
                async with manager.lease("echo"):
                    pass
            with pytest.raises(Busy):
                await manager.launch(echo("more"))
            assert await rest(stream) == "a b c d e f g h"
        await stopping
        assert not alive(instance.worker.pid)


async def test_stop_does_not_wait_longer_than_it_was_told():
    async with managed() as manager:
        await manager.launch(echo(tokens_per_second=1))
        loading = asyncio.create_task(manager.launch(echo("slow", load_seconds=30)))
        await until(lambda: len(manager.workers()) == 2)
        async with manager.lease("echo") as lease:
            await lease.handle.generate(Generate(0, prompt="word " * 100))
            began = time.monotonic()
            await manager.stop(0.3)
            assert time.monotonic() - began < 3
        with pytest.raises(Busy):
            await loading


async def test_a_second_stop_kills():
    async with managed() as manager:
        await manager.launch(echo(stall_after=0))
        async with manager.lease("echo") as lease:
            await lease.handle.generate(Generate(0, prompt="word"))
            first = asyncio.create_task(manager.stop(30))
            await asyncio.sleep(0.1)
            first.cancel()
            began = time.monotonic()
            await manager.stop(0)
            assert time.monotonic() - began < 15  # the first would wait for 30
            assert not alive(lease.handle.pid)
