"""Idle models end so that another fits: which, in what order, and never a pinned or busy one."""

from __future__ import annotations

import pytest
from managing import answer, echo, managed, until

from xin.errors import OutOfMemory
from xin.node import manager as manager_module
from xin.node.eviction import held_bytes, victims
from xin.node.launch_plan import LaunchPlan
from xin.node.manager import Manager
from xin.node.plan_choice import Choice
from xin.protocol.node import Instance, LaunchRequest

MIB = 2**20


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager_module, "READING_SECONDS", 0.0)


class Memory:
    """A check of launches by a machine that holds so many models at once; each takes 100 MiB."""

    def __init__(self, manager: Manager, most: int) -> None:
        self._manager = manager
        self._most = most
        self.lessens = False
        manager.check = self.check

    async def check(self, plan: LaunchPlan) -> Choice:
        held = [runner for runner in self._manager._runners if runner.state == "ready"]
        for runner in held:
            runner.instance.worker.rss_bytes = 100 * MIB
        if len(held) < self._most:
            return Choice()
        if self.lessens:
            return Choice({"context_length": 2048}, ["has a context of 2048"], lacks=50 * MIB)
        error = OutOfMemory("does not fit", "choose another")
        error.short_bytes = 50 * MIB
        raise error


def uids(manager: Manager) -> list[str]:
    return sorted(instance.model_uid for instance in manager.instances() if instance.state == "ready")


async def test_the_longest_unused_goes_and_what_came_on_demand_goes_first():
    async with managed() as manager:
        Memory(manager, 3)
        for uid, explicit in (("old", True), ("new", True), ("demanded", False)):
            await manager.launch(echo(uid), explicit=explicit)
        async with manager.lease("old") as lease:  # used last of all
            await answer(lease.handle, "hello")
        await manager.launch(echo("fourth"))
        assert uids(manager) == ["fourth", "new", "old"]
        [note] = [note for note in manager.get("fourth").notes if "to make room" in note]
        assert note.startswith("ended demanded, idle for")
        await manager.launch(echo("fifth"))
        assert uids(manager) == ["fifth", "fourth", "old"]


async def test_a_pinned_and_a_busy_one_stay_and_the_launch_is_refused():
    async with managed() as manager:
        Memory(manager, 2)
        await manager.launch(LaunchRequest(model_name="echo", model_uid="pinned", pin=True))
        await manager.launch(echo("busy"))
        async with manager.lease("busy"):
            with pytest.raises(OutOfMemory, match="does not fit"):
                await manager.launch(echo("third"))
        assert uids(manager) == ["busy", "pinned"] and manager.get("pinned").pinned
        await manager.launch(echo("third"))
        assert uids(manager) == ["pinned", "third"]


async def test_room_is_made_before_a_launch_gets_less():
    async with managed() as manager:
        memory = Memory(manager, 1)
        memory.lessens = True
        await manager.launch(echo("first"))
        await manager.launch(echo("second"))
        assert uids(manager) == ["second"]
        assert "has a context of 2048" not in manager.get("second").notes


async def test_nothing_ends_where_that_would_not_be_enough():
    async with managed() as manager:
        await manager.launch(echo("first"))
        manager._runners.required("first").instance.worker.rss_bytes = 100 * MIB

        async def far_too_large(plan: LaunchPlan) -> Choice:
            error = OutOfMemory("does not fit", "choose another")
            error.short_bytes = 5000 * MIB
            raise error

        manager.check = far_too_large
        with pytest.raises(OutOfMemory):
            await manager.launch(echo("giant"))
        await until(lambda: uids(manager) == ["first"])


def test_mapped_weights_are_free_already():
    made = Instance(
        model_uid="a", model_name="a", model_engine="llama.cpp", model_format="gguf", quantization="Q4_0", state="ready"
    )
    made.memory_bytes = {"weights": 900, "kv_cache": 100}
    assert held_bytes(made) == 100
    made.options = {"mmap": False}
    assert held_bytes(made) == 1000
    made.memory_bytes, made.worker.rss_bytes = {}, 70
    assert held_bytes(made) == 70


async def test_replicas_go_one_by_one_and_the_first_of_them_last():
    async with managed() as manager:
        await manager.launch(LaunchRequest(model_name="echo", model_uid="several", replica=3))
        for runner in manager._runners:
            runner.instance.worker.rss_bytes = 100 * MIB

        def chosen(mib: int) -> list[str]:
            return [one.uid for one in victims(manager._runners, mib * MIB)]

        assert chosen(150)[-1] != "several" and len(chosen(150)) == 2
        assert chosen(250)[-1] == "several"
        async with manager.lease("several@2"):
            assert chosen(150) == [] and chosen(50) == ["several@3"]
