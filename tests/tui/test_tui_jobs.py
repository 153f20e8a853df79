"""The Jobs place on a real node: stages, cause, cancel, retry, delete, filter, log."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from job_places import type_in, workbench
from live_node import LiveNode
from waiting import came as until
from waiting import screen

from xin.client import Client
from xin.protocol.node import Job, JobFile, JobStage
from xin.tui.job_words import clock
from xin.tui.store import NodeView
from xin.tui.widgets.job_detail import JobDetail, detail, title_of
from xin.tui.widgets.job_list import JobLine, JobList, job_lines
from xin.tui.widgets.log_view import LogView


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("jobs") / "node", name="hera") as node:
        yield node


@pytest.fixture
def client(node: LiveNode) -> Iterator[Client]:
    """Leaves neither jobs nor models behind."""
    with Client(node.url) as client:
        yield client
        for job in client.jobs():
            client.job_action(job.id, "delete")
        for instance in client.instances():
            client.terminate(instance.model_uid)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All that the list and the detail have shown, though it may have been for a moment only."""
    texts: list[str] = []
    show = JobDetail.show

    def noted(self: JobDetail, line: JobLine | None) -> None:
        show(self, line)
        texts.append(f"{rows(self.app)}\n{self.text}")

    monkeypatch.setattr(JobDetail, "show", noted)
    return texts


def rows(app) -> str:
    return "\n".join(app.screen.query_one(JobList).lines)


@pytest.mark.parametrize("size", [(120, 36), (80, 24)])
async def test_a_launch_is_watched_through_its_stages(node, client, shown, size):
    async with workbench(node, "jobs", size) as (app, pilot):
        assert "no job here" in screen(app)
        client.start_job("launch", model_name="echo", model_uid="slow", load_seconds=1.5)
        text = app.screen.query_one(JobDetail)
        await until(pilot, lambda: "✓ ready" in text.text)
        loading = [one for one in shown if "▶ load" in one]
        assert any("█" in one for one in loading)
        assert all("✓ resolve" in one and "· warm up" in one for one in loading), shown
        assert "xin launch echo --model-uid slow" in text.text
        log = app.screen.query_one(LogView)
        await until(pilot, lambda: any("ready in" in line.message for line in log.book.shown))
        assert "goes on when this window closes" in screen(app)


async def test_a_failed_job_says_why_and_is_tried_again(node, client):
    client.start_job("launch", model_name="echo", model_uid="sad", fail_load="its weights are cursed")
    async with workbench(node, "jobs") as (app, pilot):
        await until(pilot, lambda: "cursed" in rows(app) and "✗ failed" in rows(app))
        await until(pilot, lambda: "cursed" in app.screen.query_one(JobDetail).text and "1 failed" in screen(app))
        [before] = client.jobs()
        await pilot.press("r")
        await until(pilot, lambda: [job.id for job in client.jobs()] not in ([before.id], []))
        await until(pilot, lambda: len(app.store.jobs()) == 1 and "✗ failed" in rows(app))
        await pilot.press("X")
        await until(pilot, lambda: not app.store.jobs() and "no job here" in screen(app))


async def test_cancel_asks_and_ends_the_launch(node, client):
    client.start_job("launch", model_name="echo", model_uid="long", load_seconds=30)
    async with workbench(node, "jobs") as (app, pilot):
        await until(pilot, lambda: "▶ running" in rows(app))
        await pilot.press("x")
        await until(pilot, lambda: type(app.screen).__name__ == "Confirm" and "xin jobs cancel" in screen(app))
        await pilot.press("escape", "x")
        await until(pilot, lambda: type(app.screen).__name__ == "Confirm")
        assert client.jobs()[0].state == "running"
        await pilot.press("enter")
        await until(pilot, lambda: "■ cancelled" in rows(app))
        assert client.instances() == []


async def test_who_may_only_look_gets_no_keys_that_act(node, client):
    client.start_job("launch", model_name="echo", model_uid="long", load_seconds=30)
    async with workbench(node, "jobs", readonly=True) as (app, pilot):
        await until(pilot, lambda: "▶ running" in rows(app))
        await pilot.press("x", "X", "r")
        assert type(app.screen).__name__ == "JobsScreen" and client.jobs()[0].state == "running"
        client.job_action(client.jobs()[0].id, "cancel")


async def test_a_filter_hides_and_the_cursor_stays_on_its_job(node, client):
    for uid in ("apple", "banana", "cherry"):
        client.start_job("launch", model_name="echo", model_uid=uid)
    async with workbench(node, "jobs") as (app, pilot):
        await until(pilot, lambda: len(app.screen.query_one(JobList).lines) == 3)
        await pilot.press("down", "slash")
        await type_in(pilot, "banana")
        await until(pilot, lambda: len(app.screen.query_one(JobList).lines) == 1 and "banana" in rows(app))
        await pilot.press("enter")
        assert "2 hidden by the filter" in screen(app) and app.screen.query_one(JobList).has_focus
        await pilot.press("escape")
        await until(pilot, lambda: len(app.screen.query_one(JobList).lines) == 3)
        assert app.screen.line.job.model_uid == "banana"


async def test_the_log_of_a_launch_is_the_models_and_of_others_the_jobs(node, client):
    client.start_job("launch", model_name="echo", model_uid="talker")
    async with workbench(node, "jobs") as (app, pilot):
        await until(pilot, lambda: "✓ done" in rows(app))
        await pilot.press("L")
        await until(pilot, lambda: app.current_mode == "logs" and "talker" in screen(app))
        client.terminate("talker")
        await pilot.press("3")
        await until(pilot, lambda: not app.store.targets(ready_only=False))
        await pilot.press("L")
        assert not app.screen.query_one(JobList).display and app.screen.query_one(LogView).has_focus
        await pilot.press("escape")
        assert app.screen.query_one(JobList).display


async def test_open_job_puts_the_cursor_there(node, client):
    ids = [client.start_job("launch", model_name="echo", model_uid=uid).id for uid in ("a1", "b1", "c1")]
    async with workbench(node, "bench") as (app, pilot):
        await until(pilot, lambda: len(app.store.jobs()) == 3)
        app.open_job(app.store.home.id, ids[0])
        await until(pilot, lambda: app.current_mode == "jobs" and app.screen.line and app.screen.line.job.id == ids[0])
        await pilot.press("enter")
        assert app.screen.query_one(JobDetail).has_focus


def made_up(**fields: object) -> Job:
    given = {"id": "1", "kind": "download", "title": "qwen [b]3[/b]\x1b[31m", "state": "running", "node": "hera"}
    return Job(**{**given, **fields})  # type: ignore[arg-type]


def test_a_download_shows_files_speed_and_time_left():
    job = made_up(
        progress=0.31,
        bytes_done=19 * 2**30,
        bytes_total=61 * 2**30,
        bytes_per_second=212e6,
        seconds_left=199.0,
        started_at=time.time() - 100,
        stages=[JobStage(name="fetch", state="running", progress=0.31, detail="5 of 8")],
        files=[
            JobFile(name="m-5.gguf", total_bytes=3 * 2**30, done_bytes=2**30, state="running"),
            JobFile(name="m-4.gguf", total_bytes=3 * 2**30, done_bytes=3 * 2**30, state="done", source="zeus"),
            JobFile(name="m-3.gguf", total_bytes=1, done_bytes=1, state="done", source="a-long-name\x1b-of-a-node"),
        ],
    )
    view = NodeView("n", name="hera")
    [line] = job_lines([("n", job)], {"n": view})
    shown = JobList()
    assert "about 3:19 left" in title_of(line) and "qwen [b]3[/b]" in title_of(line)
    text = detail(job, 70).plain
    assert "▶ fetch" in text and "m-5.gguf" in text and "\x1b" not in text
    assert "done from zeus" in text
    assert all(row.cell_length <= 70 for row in detail(job, 70).split("\n"))
    assert shown.lines == []


def test_a_job_of_a_node_that_is_gone_is_unknown():
    view = NodeView("n", name="hera", status="gone", seen_at=time.time() - 12)
    [line] = job_lines([("n", made_up())], {"n": view})
    assert isinstance(line, JobLine) and 11 < (line.gone_for or 0) < 14


def test_times_read_as_clocks():
    assert [clock(seconds) for seconds in (None, 0.4, 41, 723, 3723)] == ["—", "0:00", "0:41", "12:03", "1:02:03"]
