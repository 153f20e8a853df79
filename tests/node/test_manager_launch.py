"""Launch identity, joins, cancels, failures."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest
from managing import alive, answer, echo, managed, until

from xin.errors import BadRequest, Conflict, LaunchCancelled, LoadFailed, ModelNotFound, OutOfMemory, UsageError
from xin.node.events import EventHub
from xin.protocol.node import LaunchRequest


@pytest.fixture
async def manager(xin_home):
    async with managed() as manager:
        yield manager


async def test_launch_is_ready_and_answers(manager):
    instance = await manager.launch(echo())
    assert (instance.model_uid, instance.state, instance.node) == ("echo", "ready", "here")
    assert instance.context_length == 4096 and instance.load_seconds is not None
    assert alive(instance.worker.pid)
    async with manager.lease("echo") as lease:
        assert await answer(lease.handle, "one two") == "one two"
    stats = manager.get("echo").stats
    assert (stats.requests_total, stats.tokens_total) == (1, 2)


async def test_same_launch_is_the_same_instance_also_with_defaults_spelled_out(manager):
    first = await manager.launch(echo())
    second = await manager.launch(echo(context_length="4096"))
    assert first.worker.pid == second.worker.pid
    assert len(manager.instances()) == 1


async def test_a_launch_in_flight_is_joined(manager):
    launches = [manager.launch(echo(load_seconds=0.5)) for _ in range(3)]
    pids = {instance.worker.pid for instance in await asyncio.gather(*launches)}
    assert len(pids) == 1


async def test_other_options_get_a_suffixed_uid(manager):
    uids = [(await manager.launch(echo(context_length=n))).model_uid for n in (100, 200, 300)]
    assert uids == ["echo", "echo-2", "echo-3"]


async def test_a_new_uid_is_a_second_instance(manager):
    await manager.launch(echo())
    second = await manager.launch(echo("other"))
    assert second.model_uid == "other"
    assert (await manager.launch(echo("other"))).worker.pid == second.worker.pid
    assert len(manager.instances()) == 2


async def test_a_taken_uid_is_a_conflict(manager):
    await manager.launch(echo("mine"))
    with pytest.raises(Conflict, match="mine"):
        await manager.launch(echo("mine", context_length=100))
    with pytest.raises(Conflict, match="by echo"):
        await manager.launch(LaunchRequest(model_name="smollm2", model_uid="mine"))


@pytest.mark.parametrize("uid", ["", "-x", "a/b", "a b", "x" * 129, "instances", "LLM"])
async def test_a_bad_uid_is_refused_by_name(manager, uid):
    with pytest.raises(BadRequest) as caught:
        await manager.launch(echo(uid))
    assert caught.value.param == "model_uid"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"options": {"n_paralel": 1}}, "n_paralel"),
        ({"options": {"n_parallel": 0}}, "n_parallel"),
        ({"options": {"context_length": "many"}}, "context_length"),
        ({"quantization": "Q8_0"}, "quantization"),
        ({"model_format": "gguf"}, "model_format"),
        ({"model_engine": "llama.cpp"}, "model_engine"),
        ({"replica": 0}, "replica"),
        ({"node": "elsewhere"}, "node"),
        ({"model_type": "image"}, "model_type"),
        ({"keep_alive": "soon"}, "keep_alive"),
    ],
)
async def test_what_does_not_fit_is_refused_by_name(manager, fields, param):
    with pytest.raises(BadRequest) as caught:
        await manager.launch(LaunchRequest(model_name="echo", **fields))
    assert caught.value.param == param
    assert manager.instances() == []


async def test_an_unknown_engine_or_model_says_what_there_is(manager):
    with pytest.raises(UsageError, match="vllm") as engine:
        await manager.launch(LaunchRequest(model_name="echo", model_engine="vllm"))
    assert "echo" in engine.value.hint
    with pytest.raises(ModelNotFound) as model:
        await manager.launch(LaunchRequest(model_name="ecko"))
    assert model.value.hint == "did you mean echo?"


async def test_a_failed_load_tells_its_cause_and_stays_listed(manager):
    with pytest.raises(LoadFailed, match="bad weights") as caught:
        await manager.launch(echo(fail_load="bad weights"))
    assert caught.value.hint == "launch it without fail_load"
    instance = manager.get("echo")
    assert (instance.state, instance.cause, instance.hint) == ("failed", "bad weights", "launch it without fail_load")
    with pytest.raises(LoadFailed, match="bad weights"):
        async with manager.lease("echo"):
            pass
    again = await manager.launch(echo())  # takes the uid of the failed one
    assert (again.model_uid, again.state, again.cause) == ("echo", "ready", None)


async def test_all_waiters_get_the_load_error(manager):
    launches = [manager.launch(echo(oom=True, load_seconds=0.3)) for _ in range(3)]
    errors = await asyncio.gather(*launches, return_exceptions=True)
    assert [type(error) for error in errors] == [OutOfMemory] * 3


async def test_a_client_that_leaves_does_not_stop_the_launch(manager):
    waiter = asyncio.create_task(manager.launch(echo(load_seconds=0.4)))
    await until(lambda: manager.instances())
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    await until(lambda: manager.get("echo").state == "ready")


async def test_a_launch_that_nobody_waits_for_returns_at_once(manager):
    instance = await manager.launch(echo(load_seconds=0.4), wait=False)
    assert instance.state == "loading"
    async with manager.lease("echo") as lease:
        assert await answer(lease.handle, "hi") == "hi"


async def test_cancel_ends_a_launch_and_its_waiters(manager):
    waiter = asyncio.create_task(manager.launch(echo(load_seconds=30)))
    await until(lambda: manager.instances() and manager.workers())
    pid = manager.workers()["echo"].pid
    await manager.cancel_launch("echo")
    with pytest.raises(LaunchCancelled):
        await waiter
    assert manager.instances() == [] and not alive(pid)
    with pytest.raises(ModelNotFound):
        await manager.cancel_launch("echo")


async def test_a_ready_model_has_no_launch_to_cancel(manager):
    await manager.launch(echo())
    with pytest.raises(Conflict, match="it is ready"):
        await manager.cancel_launch("echo")


async def test_terminate_frees_the_process_and_the_uid(manager):
    instance = await manager.launch(echo())
    await manager.terminate("echo")
    assert not alive(instance.worker.pid)
    assert manager.instances() == []
    with pytest.raises(ModelNotFound, match="echo"):
        await manager.terminate("echo")


async def test_a_process_that_hangs_is_killed_at_once(manager, monkeypatch):
    monkeypatch.setattr("xin.node.worker_handle.TERMINATE_SECONDS", 60)
    instance = await manager.launch(echo())
    os.kill(instance.worker.pid, signal.SIGSTOP)
    began = time.monotonic()
    await manager.terminate("echo", kill=True)
    assert time.monotonic() - began < 20 and not alive(instance.worker.pid)
    assert manager.instances() == []


async def test_a_launch_during_terminate_waits_for_its_end(manager):
    first = await manager.launch(echo())
    ending = asyncio.create_task(manager.terminate("echo"))
    await asyncio.sleep(0)
    second = await manager.launch(echo())
    await ending
    assert second.model_uid == "echo" and second.worker.pid != first.worker.pid


async def test_a_name_finds_the_instance_launched_by_it(manager):
    await manager.launch(echo("mine"))
    assert manager.get("echo").model_uid == "mine"
    with pytest.raises(ModelNotFound, match="echo") as caught:
        await manager.terminate("echo")
    assert caught.value.hint == "echo runs as mine"


async def test_every_change_is_an_event():
    events = EventHub()
    with events.subscribe() as subscription:
        async with managed(events) as manager:
            await manager.launch(echo(load_seconds=0.6))
            await manager.terminate("echo")
        seen = subscription.drain()
    instances = [event.instance for event in seen if event.instance]
    states = [instance.state for instance in instances]
    assert states[0] == "loading" and states[-2:] == ["ready", "stopping"]
    assert any(0 < instance.progress < 1 for instance in instances if instance.state == "loading")
    assert len(instances) < 10  # progress is coalesced
    assert [event.type for event in seen[-2:]] == ["instance_removed", "stopping"]


async def test_the_log_has_what_the_worker_and_the_node_say(manager, xin_home):
    with pytest.raises(LoadFailed):
        await manager.launch(echo(fail_load="bad weights"))
    lines = [(line.source, line.level, line.message) for line in manager.log("echo").tail()]
    assert ("node", "error", "failed: bad weights") in lines
    assert ("worker", "error", "ERROR xin.worker: load failed: bad weights") in lines
    await manager.terminate("echo")
    assert "bad weights" in (xin_home / "state/log/instances-0/echo.log").read_text()


@pytest.mark.parametrize("delay", [0, 0.003, 0.01, 0.03, 0.1])
async def test_a_launch_may_be_ended_at_any_moment(manager, delay):
    await manager.launch(echo(load_seconds=0.1), wait=False)
    await asyncio.sleep(delay)
    await manager.terminate("echo")
    assert manager.instances() == []
    assert (await manager.launch(echo())).state == "ready"
