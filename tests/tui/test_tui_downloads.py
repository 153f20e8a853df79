"""Downloads in the workbench, from a hub on loopback: watched, paused, resumed, cancelled, retried, deleted, used."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import HubServer
from job_places import type_in, workbench
from live_node import LiveNode
from waiting import came as until
from waiting import screen

from xin.client import Client
from xin.tui.dialogs.launch import LaunchDialog
from xin.tui.widgets.job_detail import JobDetail
from xin.tui.widgets.job_list import JobList

FILE = "thing.Q4_0.gguf"
NAME = f"org/thing-GGUF:{FILE}"
BODY = random.Random(7).randbytes(4_000_000)
SMALL = "bartowski/SmolLM2-360M-Instruct-GGUF"


@pytest.fixture(scope="module")
def hub(smollm2: Path) -> Iterator[HubServer]:
    stands_for = smollm2.read_bytes()
    with HubServer({"org/thing-GGUF": {FILE: BODY}, SMALL: {"SmolLM2-360M-Instruct-Q4_K_M.gguf": stands_for}}) as hub:
        yield hub


@pytest.fixture(scope="module")
def node(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    home = tmp_path_factory.mktemp("fetching")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"):
            patch.delenv(name, raising=False)
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("HF_HOME", str(home / "hf"))
        with LiveNode(home / "node", name="hera") as node:
            yield node


def parts(node: LiveNode) -> list[int]:
    """Bytes of what is half fetched."""
    return [path.stat().st_size for path in (node.home.parent / "hf").rglob("*.xin-part")]


@pytest.mark.parametrize("size", [(120, 36), (80, 24)])
async def test_a_download_by_hand(node: LiveNode, hub: HubServer, size: tuple[int, int]):
    hub.bytes_per_second = 400_000
    hub.log.clear()
    with Client(node.url) as client:
        client.start_job("download", model_name=NAME)
        async with workbench(node, "jobs", size) as (app, pilot):
            rows, detail = app.screen.query_one(JobList), app.screen.query_one(JobDetail)

            def line() -> str:
                return rows.lines[0] if rows.lines else ""

            await until(pilot, lambda: "█" in line() and "/s" in screen(app) and FILE in detail.text)
            assert "download" in line() and "4M" in detail.text
            await pilot.press("p")
            await until(pilot, lambda: client.jobs()[0].state == "paused" and "1 paused" in screen(app))
            [held] = parts(node)
            await pilot.press("p")
            await until(pilot, lambda: client.jobs()[0].state == "running" and client.jobs()[0].bytes_done > held)
            await pilot.press("x")
            await until(pilot, lambda: "r goes on" in screen(app) and "xin jobs cancel" in screen(app))
            await pilot.press("enter")
            await until(pilot, lambda: client.jobs()[0].state == "cancelled" and "cancelled" in screen(app))
            [kept] = parts(node)
            assert 0 < held < kept < len(BODY)
            await pilot.press("r")
            await until(pilot, lambda: client.jobs()[0].state == "running" and client.jobs()[0].bytes_done > kept)
            await pilot.press("X")
            await until(pilot, lambda: "xin jobs delete" in screen(app))
            await pilot.press("enter")
            await until(pilot, lambda: not client.jobs() and not rows.lines)
            assert parts(node) == []
    asked = hub.ranges(FILE)
    assert asked[1:] == [f"bytes={held}-", f"bytes={kept}-"]


async def test_a_model_of_the_catalogue_is_fetched_and_launched_from_the_dialog(node: LiveNode, hub: HubServer):
    hub.bytes_per_second = 0
    async with workbench(node, "bench") as (app, pilot):
        app.open_launch()
        await until(pilot, lambda: isinstance(app.screen, LaunchDialog) and app.screen.query("#launch-form Input"))
        await until(pilot, lambda: len(app.screen.picker.models.lines) > 50)
        dialog = app.screen
        listed = dialog.picker.models.lines
        here = [line.rstrip().endswith("here") for line in listed]
        assert here.count(True) >= 2 and here == sorted(here, reverse=True)
        await type_in(pilot, "chat 360m")
        await until(pilot, lambda: [one.title for one in dialog.picker.shown] == ["smollm2"])
        await until(pilot, lambda: "quantizations" in screen(app) and "fetch: 7" in screen(app))
        await until(pilot, lambda: dialog.command == "xin launch smollm2:360m-Q4_K_M", 30)
        await until(pilot, lambda: "first" in screen(app) and "fetches" in screen(app))
        await pilot.press("enter")
        await until(pilot, lambda: dialog.grid.has_focus)
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "jobs" and "✓ ready" in screen(app), 40)
    with Client(node.url) as client:
        [running] = client.instances()
        assert running.model_name.startswith("smollm2") and running.state == "ready"
        client.terminate(running.model_uid)
