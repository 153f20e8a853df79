"""The Bench on a real node with echo models: launch, watch, chat, restart, stop, kill; the node goes and returns."""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager

import pytest
from live_node import LiveNode
from waiting import came as until

from xin.tui.app import Workbench
from xin.tui.settings import TuiSettings
from xin.tui.store import Target
from xin.tui.widgets.bench_view import BenchView
from xin.tui.widgets.detail import Detail
from xin.tui.widgets.jobs_strip import JobsStrip
from xin.tui.widgets.launchables import Launchables
from xin.tui.widgets.model_table import ModelTable
from xin.tui.widgets.node_list import NodeList


@pytest.fixture
def node(tmp_path):
    with LiveNode(tmp_path / "node", name="bencher") as node:
        yield node


@asynccontextmanager
async def bench(node: LiveNode, size=(120, 36), **given):
    app = Workbench(node.url, settings=TuiSettings(), **given)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.store.link.state == "live")
        yield app, pilot


def models(app) -> str:
    return "\n".join(app.query_one(ModelTable).lines)


async def confirm(pilot) -> None:
    await until(pilot, lambda: type(pilot.app.screen).__name__ == "Confirm")
    await pilot.press("enter")


async def test_an_empty_bench_launches_at_one_key_what_the_machine_can_run(node):
    async with bench(node) as (app, pilot):
        offer = app.query_one(Launchables)
        await until(pilot, lambda: "echo" in "\n".join(offer.list.lines))
        assert "Nothing is running" in offer.text and "RAM" in offer.text and "bencher" in offer.text
        assert "smollm2" in offer.list.lines[0] and "fits" in offer.list.lines[0]
        await pilot.press("G", "enter")
        await until(pilot, lambda: "● ready" in models(app) and "echo" in models(app))
        assert app.query_one(ModelTable).has_focus and not offer.display
        assert app.query_one(BenchView).target is not None


async def test_requests_are_seen_in_the_row_and_in_the_detail(node):
    node.launch(model_uid="words", tokens_per_second=40, n_parallel=4)
    async with bench(node) as (app, pilot):
        await until(pilot, lambda: "words" in models(app) and "0/4" in models(app))
        await until(pilot, lambda: "ready in" in app.query_one(Detail).text)  # the log's last line
        client = app.client(next(iter(app.store.nodes)))
        stream = client.chat_stream("words", [{"role": "user", "content": "word " * 120}])
        async for _ in stream:
            if "1/4" in models(app) and "now" in app.query_one(Detail).text:
                break
            await pilot.pause(0.01)
        else:
            pytest.fail(models(app))
        await stream.aclose()
        await until(pilot, lambda: "0/4" in models(app))


async def test_stop_restart_and_kill(node):
    node.launch(model_uid="first")
    node.launch(model_uid="second", context_length=1000)
    async with bench(node) as (app, pilot):
        await until(pilot, lambda: models(app).count("ready") == 2)
        home = next(iter(app.store.nodes))
        before = app.store.instance(Target(home, "second")).worker.pid
        await pilot.press("j", "r")
        await confirm(pilot)
        await until(pilot, lambda: _pid(app, home, "second") not in (None, before) and models(app).count("ready") == 2)
        assert app.store.instance(Target(home, "second")).options["context_length"] == 1000
        hangs = _pid(app, home, "second")
        os.kill(hangs, signal.SIGSTOP)
        app.query_one(ModelTable).move_to(f"{home}\tsecond")
        await pilot.press("X")
        await confirm(pilot)
        await until(pilot, lambda: "second" not in models(app), 4)
        await pilot.press("x")
        await confirm(pilot)
        await until(pilot, lambda: app.query_one(BenchView).has_class("-empty"))


async def test_a_launch_that_fails_tells_its_cause_and_is_tried_again(node):
    node.http.post("/v1/models?wait_ready=false", json={"model_name": "echo", "model_uid": "bad", "oom": True})
    async with bench(node) as (app, pilot):
        await until(pilot, lambda: "✗ failed" in models(app) and "told" in models(app))
        await until(pilot, lambda: "why" in app.query_one(Detail).text and app.query_one(JobsStrip).display)
        failed_at = app.store.instance(app.query_one(BenchView).target).launched_at
        await pilot.press("r")
        await until(pilot, lambda: app.store.instance(app.query_one(BenchView).target).launched_at > failed_at)
        await until(pilot, lambda: "✗ failed" in models(app))


async def test_a_slow_load_shows_its_progress_in_wide_and_narrow(node):
    async with bench(node) as (app, pilot):
        body = {"model_name": "echo", "model_uid": "slow", "load_seconds": 3}
        node.http.post("/v1/models?wait_ready=false", json=body)
        await until(pilot, lambda: "▶ loading" in models(app) and "%" in models(app))
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "▶ loading" in "\n".join(app.query_one("#tree").lines))
        await until(pilot, lambda: "● ready" in "\n".join(app.query_one("#tree").lines))


async def test_a_node_that_dies_is_gone_with_its_age_and_returns_without_a_key(tmp_path):
    with LiveNode(tmp_path / "node", name="mortal") as node:
        node.launch(model_uid="kept")
        async with bench(node) as (app, pilot):
            await until(pilot, lambda: "● ready" in models(app))
            node.process.kill()
            await until(pilot, lambda: "last seen" in "\n".join(app.query_one(NodeList).lines), 5)
            assert "○ gone" in models(app)
            with LiveNode(tmp_path / "node", name="mortal", port=node.url.rpartition(":")[2]):
                await until(pilot, lambda: "● mortal" in "\n".join(app.query_one(NodeList).lines), 5)
                assert "last seen" not in "\n".join(app.query_one(NodeList).lines)


def _pid(app, node_id: str, uid: str) -> int | None:
    instance = app.store.instance(Target(node_id, uid))
    return instance.worker.pid if instance is not None and instance.state == "ready" else None
