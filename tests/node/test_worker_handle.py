"""One handle on one real worker with the echo engine."""

from __future__ import annotations

import asyncio
import time

import pytest
from managing import alive, answer, reasons, rest, until

from xin.errors import BadRequest, ContextLengthExceeded, LoadFailed, WorkerDied
from xin.node import worker_process
from xin.node.instance_log import InstanceLog
from xin.node.worker_handle import WorkerHandle
from xin.worker.frames import Delta, Deltas, Done, Generate, Load, Tokenize, encode


class Listener:
    """Remembers what the handle told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.stats = []

    def worker_progress(self, fraction, stage):
        self.told.append("progress")

    def worker_stats(self, stats):
        self.stats.append(stats)

    def worker_done(self, done):
        self.told.append("done")

    def worker_busy(self, handle):
        self.told.append("busy")

    def worker_idle(self, handle):
        self.told.append("idle")

    def worker_gone(self, handle):
        self.told.append("gone")


@pytest.fixture
async def start():
    handles = []

    async def start(listener: Listener | None = None, **options) -> WorkerHandle:
        load = Load("echo", [], options, model_name="echo")
        log = InstanceLog()
        handle = await WorkerHandle.start(load, name="mine", threads=2, log=log, listener=listener or Listener())
        handles.append(handle)
        return handle

    yield start
    for handle in handles:
        await handle.close()


async def test_generate_tells_busy_and_idle(start):
    listener = Listener()
    handle = await start(listener, ttft_ms=200)
    assert (await handle.wait_ready()).threads == 2
    stream = await handle.generate(Generate(0, prompt="one two"))
    assert handle.busy and stream.prompt_tokens == 7
    assert await rest(stream) == "one two"
    assert not handle.busy and await stream.next_batch() == []
    assert [word for word in listener.told if word != "progress"] == ["busy", "done", "idle"]


async def test_choices_all_end(start):
    handle = await start()
    await handle.wait_ready()
    stream = await handle.generate(Generate(0, prompt="one two", n=3))
    assert await reasons(stream) == ["stop"] * 3


async def test_parallel_streams_do_not_mix(start):
    handle = await start()
    await handle.wait_ready()
    prompts = [f"stream {n} says {n * n}" for n in range(16)]
    assert await asyncio.gather(*(answer(handle, prompt) for prompt in prompts)) == prompts


async def test_a_slow_consumer_gets_all_that_waits_at_once(start):
    handle = await start()
    await handle.wait_ready()
    stream = await handle.generate(Generate(0, prompt="word " * 100))
    await asyncio.sleep(0.3)
    assert len(await stream.next_batch()) > 50


async def test_cancel_ends_the_request_and_is_idempotent(start):
    listener = Listener()
    handle = await start(listener, tokens_per_second=10)
    await handle.wait_ready()
    stream = await handle.generate(Generate(0, prompt="word " * 100))
    await stream.next_batch()
    stream.cancel()
    stream.cancel()
    began = time.monotonic()
    assert await reasons(stream) == ["cancelled"]
    assert time.monotonic() - began < 5  # the answer would take ten
    stream.cancel()


async def test_a_caller_that_is_cancelled_before_accepted_frees_its_slot(start):
    listener = Listener()
    handle = await start(listener, tokens_per_second=1)
    await handle.wait_ready()
    task = asyncio.create_task(handle.generate(Generate(0, prompt="word " * 100)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: not handle.busy, 2)
    assert listener.told[-1] == "idle"


async def test_a_refused_request_raises_before_any_text(start):
    handle = await start(context_length=10)
    await handle.wait_ready()
    with pytest.raises(ContextLengthExceeded):
        await handle.generate(Generate(0, prompt="far too long a prompt"))
    assert not handle.busy


async def test_load_errors_are_of_their_class(start):
    with pytest.raises(LoadFailed, match="no good"):
        await (await start(fail_load="no good")).wait_ready()
    with pytest.raises(BadRequest) as caught:
        await (await start(nonsense=1)).wait_ready()
    assert caught.value.param == "nonsense"


async def test_a_dead_worker_raises_its_cause_from_then_on(start):
    handle = await start(die_after=2)
    await handle.wait_ready()
    stream = await handle.generate(Generate(0, prompt="a b c d"))
    batch = await stream.next_batch()
    assert batch[0].text == "a"  # what came before is delivered first
    with pytest.raises(WorkerDied, match="mine"):
        await rest(stream)
    with pytest.raises(WorkerDied, match="mine"):
        await handle.tokenize(Tokenize(0, text="a"))
    assert isinstance(handle.exited.result(), WorkerDied)


async def test_close_ends_a_worker_that_stalls(start, monkeypatch):
    handle = await start(stall_after=0)
    await handle.wait_ready()
    await handle.generate(Generate(0, prompt="a"))
    await handle.close(0.2)
    assert not alive(handle.pid)


async def test_stats_come_while_it_runs(start):
    listener = Listener()
    handle = await start(listener, tokens_per_second=20)
    await handle.wait_ready()
    await rest(await handle.generate(Generate(0, prompt="word " * 24)))
    await until(lambda: len(listener.stats) >= 2 and listener.stats[-1].running == 0, 2)
    assert 10 < listener.stats[0].tokens_per_second < 25


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 10_000])
def test_frames_survive_any_split(size):
    frames = [Deltas([Delta(1, 0, "词" * n)]) for n in range(20)] + [Done(1, 0, "stop", 20)]
    data = b"".join(map(encode, frames))
    taken = []
    process = worker_process.WorkerProcess(taken.append, print, print)
    for at in range(0, len(data), size):
        process.pipe_data_received(1, data[at : at + size])
    assert taken == frames
