"""The node's CPU threads among its workers."""

from __future__ import annotations

import asyncio

import pytest
from managing import echo, managed, rest, until

from xin.node.thread_budget import ThreadBudget, shares, usable_cores
from xin.worker.frames import Generate


@pytest.mark.parametrize(
    ("total", "wants", "given"),
    [
        (8, [8], [8]),
        (8, [8, 8], [4, 4]),
        (8, [8, 8, 8], [3, 3, 2]),
        (8, [2, 8], [2, 6]),
        (8, [1, 8, 8], [1, 4, 3]),
        (8, [2, 2], [2, 2]),
        (2, [2, 2, 2], [1, 1, 1]),
        (1, [1], [1]),
        (4, [], []),
    ],
)
def test_shares(total, wants, given):
    assert shares(total, wants) == given


class Worker:
    def __init__(self, history: list[str], name: str, threads: int) -> None:
        self.history, self.name, self.threads = history, name, threads

    def set_threads(self, threads: int) -> None:
        if threads != self.threads:
            self.threads = threads
            self.history.append(f"{self.name}={threads}")


async def test_a_second_worker_takes_from_the_first_before_it_runs():
    history: list[str] = []
    budget = ThreadBudget(4)
    first, second = Worker(history, "first", 4), Worker(history, "second", 4)
    budget.begin(first)
    assert history == []
    budget.begin(second)
    assert history == ["first=2", "second=2"]
    budget.end(second)
    budget.begin(second)  # back within the hysteresis: nothing moves
    assert history == ["first=2", "second=2"]
    budget.end(second)
    await asyncio.sleep(0.1)
    assert history[2:] == ["first=4"]
    budget.begin(second)
    assert history[3:] == ["first=2"]


async def test_whoever_begins_takes_the_share_that_a_resting_one_kept():
    history: list[str] = []
    budget = ThreadBudget(4)
    embedder, model = Worker(history, "embedder", 4), Worker(history, "model", 4)
    budget.begin(embedder)
    budget.end(embedder)
    budget.begin(model)
    assert (model.threads, history) == (4, [])
    await asyncio.sleep(0.1)
    assert history == []
    budget.begin(embedder)
    assert history == ["model=2", "embedder=2"]
    budget.end(model)
    budget.begin(embedder)
    assert history[2:] == ["embedder=4"]


async def test_a_limit_leaves_the_rest_to_others():
    history: list[str] = []
    budget = ThreadBudget(8)
    small, large = Worker(history, "small", budget.initial(2)), Worker(history, "large", budget.initial())
    budget.begin(large)
    budget.begin(small, 2)
    assert (small.threads, large.threads) == (2, 6)
    assert budget.initial() == 3  # one more loads beside them
    budget.remove(small)
    assert large.threads == 8


def test_usable_cores_is_at_least_one():
    assert usable_cores() >= 1


async def test_real_workers_share_while_both_run_and_get_all_back():
    async with managed(threads=4) as manager:
        await manager.launch(echo("a", tokens_per_second=20))
        await manager.launch(echo("b", tokens_per_second=20))

        def threads() -> list[int]:
            return [worker.threads for worker in manager.workers().values()]

        assert threads() == [4, 4]
        async with manager.lease("a") as a, manager.lease("b") as b:
            long = await a.handle.generate(Generate(0, prompt="word " * 200))
            short = await b.handle.generate(Generate(0, prompt="a b c"))
            assert threads() == [2, 2]
            await rest(short)
            await until(lambda: threads()[0] == 4, 1)
            long.cancel()
