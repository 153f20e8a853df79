"""Workers that die, and what comes back by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from managing import alive, answer, echo, managed, rest, until

from xin.errors import Busy, LaunchCancelled, LoadFailed, ModelNotFound, WorkerDied
from xin.node import instance_runner
from xin.protocol.node import LaunchRequest
from xin.worker.frames import Generate


async def test_a_killed_worker_ends_its_streams_with_a_cause_and_comes_back():
    async with managed() as manager:
        first = await manager.launch(echo(tokens_per_second=50))
        other = await manager.launch(echo("other", tokens_per_second=50))
        async with manager.lease("echo") as lease, manager.lease("other") as beside:
            stream = await lease.handle.generate(Generate(0, prompt="word " * 800))
            steady = await beside.handle.generate(Generate(0, prompt="a b c d e f g h i j"))
            await stream.next_batch()
            os.kill(first.worker.pid, signal.SIGKILL)
            killed = time.monotonic()
            with pytest.raises(WorkerDied, match=r"worker of echo was killed from outside \(SIGKILL\) while it ran"):
                await rest(stream)
            assert time.monotonic() - killed < 8  # the answer would take 16
            assert (await rest(steady)).endswith("i j")  # next to it nothing happened
        assert manager.get("echo").state == "loading"
        assert "SIGKILL" in manager.get("echo").cause
        async with manager.lease("echo") as lease:  # waits for the restart
            assert await answer(lease.handle, "back again") == "back again"
        instance = manager.get("echo")
        assert (instance.state, instance.cause, instance.worker.restarts) == ("ready", None, 1)
        assert manager.get("other").worker.pid == other.worker.pid


async def test_a_worker_that_keeps_dying_is_given_up(monkeypatch):
    monkeypatch.setattr(instance_runner, "FIRST_BACKOFF_SECONDS", 0.02)
    async with managed() as manager:
        await manager.launch(echo(die_after=0))
        for _ in range(instance_runner.QUICK_DEATHS):
            async with manager.lease("echo") as lease:
                with pytest.raises(WorkerDied):
                    await answer(lease.handle, "hi")
            await until(lambda: manager.get("echo").state in ("ready", "failed"))
        instance = manager.get("echo")
        assert instance.state == "failed" and "SIGKILL" in instance.cause
        with pytest.raises(WorkerDied):
            async with manager.lease("echo"):
                pass


async def test_busy_when_the_restart_takes_too_long_and_terminate_ends_the_backoff(monkeypatch):
    monkeypatch.setattr(instance_runner, "FIRST_BACKOFF_SECONDS", 20)
    monkeypatch.setattr(instance_runner, "RESTART_WAIT_SECONDS", 0.1)
    async with managed() as manager:
        instance = await manager.launch(echo())
        os.kill(instance.worker.pid, signal.SIGSEGV)
        await until(lambda: manager.get("echo").state == "loading")
        with pytest.raises(Busy, match="segmentation fault") as caught:
            async with manager.lease("echo"):
                pass
        assert caught.value.hint == "try again in 20 s"
        waiter = asyncio.create_task(manager.launch(echo()))
        await asyncio.sleep(0.05)
        await manager.cancel_launch("echo")
        with pytest.raises(LaunchCancelled):
            await waiter
        assert manager.instances() == []


async def test_a_worker_killed_while_it_loads_fails_the_launch():
    async with managed() as manager:
        waiter = asyncio.create_task(manager.launch(echo(load_seconds=30)))
        await until(lambda: manager.workers())
        os.kill(manager.workers()["echo"].pid, signal.SIGKILL)
        with pytest.raises(LoadFailed, match="while it loaded"):
            await waiter
        assert manager.get("echo").state == "failed"


async def test_terminate_ends_running_streams():
    async with managed() as manager:
        await manager.launch(echo(tokens_per_second=5))
        async with manager.lease("echo") as lease:
            stream = await lease.handle.generate(Generate(0, prompt="word " * 100))
            await manager.terminate("echo")
            with pytest.raises(WorkerDied, match="terminated"):
                await rest(stream)


async def test_explicit_launches_come_back_after_a_restart():
    async with managed() as manager:
        await manager.launch(echo(context_length=100))
        await manager.launch(echo("second"))
        await manager.launch(echo("ended"))
        await manager.terminate("ended")
        async with manager.lease("second"):
            pass
    async with managed() as manager:
        assert {i.model_uid for i in manager.instances()} == {"echo", "second"}
        async with manager.lease("echo") as lease:
            assert lease.instance.context_length == 100 and lease.instance.explicit


async def test_neither_on_demand_nor_failed_launches_come_back():
    async with managed() as manager:
        async with manager.lease("echo"):
            pass
        with pytest.raises(LoadFailed):
            await manager.launch(echo("bad", fail_load="no"))
    async with managed() as manager:
        assert manager.instances() == []


async def test_a_launch_whose_file_went_away_is_listed_as_failed(tmp_path, smollm2):
    model = tmp_path / "mine.gguf"
    model.symlink_to(smollm2)
    async with managed() as manager:
        await manager.launch(LaunchRequest(model_name=str(model), options={"context_length": 256}))
    model.unlink()
    async with managed() as manager:
        instance = manager.get("mine")
        assert instance.state == "failed" and str(model) in instance.cause
        await manager.terminate("mine")
    async with managed() as manager:
        assert manager.instances() == []


async def test_a_broken_state_file_is_put_aside(xin_home):
    file = xin_home / "state/desired-0.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"launches": [{"requ')
    async with managed() as manager:
        assert manager.instances() == []
        await manager.launch(echo())
    assert file.with_suffix(".broken").exists()
    async with managed() as manager:
        assert manager.get("echo")


async def test_a_full_disk_fails_the_launch_with_its_cause(xin_home):
    (xin_home / "state").mkdir(parents=True)
    (xin_home / "state/desired-0.new").symlink_to("/dev/full")
    async with managed() as manager:
        with pytest.raises(Exception, match="No space left on device") as caught:
            await manager.launch(echo())
        assert "free space" in caught.value.hint
        await manager.terminate("echo")
        async with manager.lease("echo") as lease:  # on demand nothing needs writing
            assert await answer(lease.handle, "hi") == "hi"
    with pytest.raises(ModelNotFound):
        manager.get("echo")


async def test_a_node_that_is_killed_leaves_no_worker(xin_home):
    program = (
        "import asyncio, sys; sys.path.insert(0, sys.argv[1])\n"
        "from managing import echo, managed\n"
        "async def main():\n"
        "    async with managed() as manager:\n"
        "        print((await manager.launch(echo())).worker.pid, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    command = (sys.executable, "-c", program, str(Path(__file__).parent))
    node = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    pid = int(await node.stdout.readline())
    assert alive(pid)
    node.kill()
    await node.wait()
    await until(lambda: not alive(pid), 3)
    async with managed() as manager, manager.lease("echo") as lease:
        assert lease.instance.explicit
