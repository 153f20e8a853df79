"""The sampler reads once at the start, and each second only while somebody watches."""

import asyncio
import os
import threading
import time

from xin.node.devices.probe import Prober
from xin.node.devices.sampler import Sampler
from xin.node.events import EventHub
from xin.protocol.node import Device, WorkerInfo


class Counter:
    """A driver that counts its readings; `wait` keeps it from answering."""

    problem = None

    def __init__(self):
        self.reads = 0
        self.closed = 0
        self.wait = threading.Event()
        self.wait.set()

    def read(self):
        self.wait.wait(20)
        self.reads += 1
        return [Device(id="cuda:0", kind="cuda", name="x", total_bytes=1, process_bytes={os.getpid(): 7})]

    def close(self):
        self.closed += 1


async def test_samples_flow_only_while_watched():
    hub, source = EventHub(), Counter()
    workers = {"m": WorkerInfo(pid=os.getpid())}
    async with Sampler(hub, lambda: workers, prober=Prober([source]), interval_seconds=0.05) as sampler:
        assert sampler.latest()[0].id == "cuda:0"
        with hub.subscribe() as plain, hub.subscribe(samples=True) as watching:
            event = await anext(watching)
        assert (event.type, event.devices[0].id, event.workers["m"].gpu_bytes) == ("samples", "cuda:0", {"cuda:0": 7})
        assert event.workers["m"].rss_bytes > 1 << 20
        assert plain.drain() == []
        await asyncio.sleep(0.2)
        idle = source.reads
        assert source.closed
        await asyncio.sleep(0.3)
        assert source.reads == idle


async def test_current_reads_anew_only_when_old():
    source = Counter()
    async with Sampler(EventHub(), dict, prober=Prober([source])) as sampler:
        await sampler.current(60)
        assert source.reads == 1
        await asyncio.gather(sampler.current(0), sampler.current(0))
        assert source.reads == 2


async def test_a_driver_that_hangs_holds_up_neither_start_nor_end():
    source = Counter()
    source.wait.clear()
    began = time.monotonic()
    async with Sampler(EventHub(), dict, prober=Prober([source])) as sampler:
        assert sampler.latest() == []
        assert await sampler.current() == []
    assert time.monotonic() - began < 3
    source.wait.set()
