"""--gpu 0,1: refused where it is not there, told to the worker where it is. No accelerator is needed here."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from managing import managed

from xin.errors import BadRequest
from xin.node.dry_runs import DryRuns
from xin.node.gpu_choice import check_gpu, environment, share, visible
from xin.protocol.command import launch_command
from xin.protocol.node import Device, LaunchRequest

CPU = Device(id="cpu", kind="cpu", name="CPU", total_bytes=1)
GPUS = [Device(id=f"cuda:{n}", kind="cuda", name="GPU", total_bytes=1) for n in range(2)]
PART = Device(id="cuda:1/0", kind="cuda", name="MIG", total_bytes=1, parent="cuda:1")
DEVICES = [CPU, *GPUS, PART]


@pytest.mark.parametrize(("wanted", "words"), [([2], "gpu 2 is not on here"), ([], "gpu is"), ([0, 0], "gpu is")])
def test_one_that_is_not_there_is_refused_by_name(wanted: list[int], words: str):
    with pytest.raises(BadRequest, match=words) as caught:
        check_gpu(wanted, DEVICES, "here")
    assert caught.value.param == "gpu"
    check_gpu([1, 0], DEVICES, "here")


def test_the_hint_lists_what_there_is():
    with pytest.raises(BadRequest) as caught:
        check_gpu([7], DEVICES, "here")
    assert caught.value.hint == "there is: cuda:0, cuda:1"
    with pytest.raises(BadRequest) as caught:
        check_gpu([0], [CPU], "here")
    assert caught.value.hint == "there is: no accelerator"


def test_what_counts_for_the_plan():
    assert visible(DEVICES, None) == DEVICES
    assert [one.id for one in visible(DEVICES, [1])] == ["cpu", "cuda:1"]


@pytest.mark.parametrize(
    ("wanted", "count", "shares"),
    [
        (None, 2, [None, None]),
        ([0, 1], 1, [[0, 1]]),
        ([0, 1, 2, 3], 2, [[0, 2], [1, 3]]),
        ([0, 1], 3, [[0], [1], [0]]),
    ],
)
def test_replicas_on_one_node_share_them(wanted: list[int] | None, count: int, shares: list[list[int] | None]):
    assert [share(wanted, index, count) for index in range(count)] == shares


async def test_the_workers_see_theirs_and_no_others():
    async def devices() -> list[Device]:
        return DEVICES

    async with managed() as manager:
        manager.devices = devices
        await manager.launch(LaunchRequest(model_name="echo", replica=2, gpu=[0, 1]))
        await manager.launch(LaunchRequest(model_name="echo", model_uid="all"))
        seen = {one.model_uid: visible_to(one.worker.pid) for one in manager.instances()}
        assert (seen["echo"], seen["echo@2"]) == ("0", "1")
        assert seen["all"] != "0"
        with pytest.raises(BadRequest):
            await manager.launch(LaunchRequest(model_name="echo", model_uid="other", gpu=[2]))


def visible_to(pid: int | None) -> str | None:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next((pair.decode().partition("=")[2] for pair in pairs if pair.startswith(b"CUDA_VISIBLE_DEVICES=")), None)


def test_nothing_is_set_when_nothing_was_asked():
    assert environment(None) == {}
    assert environment([1, 0])["HIP_VISIBLE_DEVICES"] == "1,0"


def test_the_equal_command_names_them():
    assert launch_command(LaunchRequest(model_name="m", replica=2, gpu=[0, 1])) == "xin launch m --replica 2 --gpu 0,1"


async def test_memory_is_counted_with_the_accelerators_of_the_launch(smollm2: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[str | None] = []
    made = asyncio.create_subprocess_exec

    async def spy(*command: str, **given: Any) -> asyncio.subprocess.Process:
        seen.append(given["env"].get("CUDA_VISIBLE_DEVICES"))
        return await made(*command, **given)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", spy)
    runs = DryRuns()
    for gpu in (None, [1], [1], [0, 1]):
        assert (await runs.sizes(str(smollm2), [{}], gpu=gpu)).error is None
    assert seen == [None, "1", "0,1"]  # each choice once
    await runs.close()
