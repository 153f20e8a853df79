"""The Bench over a store that no node fills: what it shows at each size, and what its keys do."""

from __future__ import annotations

import re
import time
from collections import deque
from contextlib import asynccontextmanager

import msgspec
import pytest
from rich.cells import cell_len

from xin.protocol.node import (
    Device,
    Instance,
    InstanceStats,
    Job,
    LocalModel,
    NodeInfo,
    Recommendation,
    ShardPart,
    WorkerInfo,
)
from xin.tui import glyphs
from xin.tui.app import Workbench
from xin.tui.model_actions import request_of
from xin.tui.screens.bench import BenchScreen
from xin.tui.settings import TuiSettings
from xin.tui.store import NodeView, Target
from xin.tui.widgets.bench_view import BenchView
from xin.tui.widgets.detail import Detail
from xin.tui.widgets.fleet_tree import FleetTree
from xin.tui.widgets.jobs_strip import JobsStrip
from xin.tui.widgets.launchables import Launchables, ranked_models
from xin.tui.widgets.model_table import ModelTable, key_of
from xin.tui.widgets.node_list import NodeList

GIB = 2**30
ATLAS = Target("a", "alpha")
CAUSE = "not enough memory: needs 9.1 GiB, 6.3 GiB are free"


def device(index: int = 0, used: float = 8, total: float = 24, **more) -> Device:
    given = {"utilization": 97.0, "temperature": 71.0, "power": 402.0, "name": "RTX 4090", "kind": "cuda"} | more
    return Device(id=f"cuda:{index}", total_bytes=int(total * GIB), free_bytes=int((total - used) * GIB), **given)


def ram(used: float = 12, total: float = 64) -> Device:
    free = int((total - used) * GIB)
    return Device(id="cpu", kind="cpu", name="CPU", total_bytes=int(total * GIB), free_bytes=free, utilization=9.0)


def model(uid: str, state: str = "ready", **more) -> Instance:
    given = {"context_length": 32768, "n_parallel": 8, "launched_at": time.time() - 60} | more
    return Instance(
        model_uid=uid,
        model_name=uid,
        model_engine="llama.cpp",
        model_format="gguf",
        quantization=given.pop("quantization", "Q4_K_M"),
        state=state,
        **given,
    )


def node(node_id: str, name: str, relation: str = "local", status: str = "alive", **more) -> NodeView:
    endpoint = f"http://127.0.0.1:{9990 + ord(node_id)}"
    info = NodeInfo(
        id=node_id, name=name, version="1", endpoint=endpoint, pid=1, started_at=time.time() - 3 * 86400 - 60
    )
    return NodeView(node_id, name, relation, status, endpoint, info, **more)


def fleet() -> list[NodeView]:
    busy = InstanceStats(running=2, waiting=1, tokens_per_second=61.4, kv_used=8192, kv_total=32768, requests_total=7)
    atlas = node("a", "atlas", "self", devices=[device(0, 20), device(1, 2), ram()])
    atlas.instances = {"alpha": model("alpha", stats=busy), "beta": model("beta", quantization="Q8_0")}
    atlas.workers = {"alpha": WorkerInfo(pid=1, rss_bytes=GIB, gpu_bytes={"cuda:0": 17 * GIB})}
    atlas.rates = {"alpha": deque([10.0, 88.0, 61.4])}
    atlas.ttfts = {"alpha": deque([80.0, 84.0, 310.0])}
    hera = node("h", "hera", devices=[device(0, 38, 80, name="H100")])
    hera.instances = {
        "gamma": model("gamma", "loading", progress=0.62, stage="shard 5/8"),
        "delta": model("delta", "failed", cause=CAUSE, hint="launch it with a smaller context"),
    }
    return [atlas, hera]


def fill(app: Workbench, *views: NodeView) -> None:
    app.store.nodes = {view.id: view for view in views}
    app.store.set_link("live", "http://127.0.0.1:9997")
    app.store.changed("nodes", "instances", "jobs", "samples")


@asynccontextmanager
async def bench(*views: NodeView, size=(120, 36), **given):
    app = Workbench(None, connect=False, settings=TuiSettings(), **given)
    fill(app, *views)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: bool(app.query(BenchView)) and app.query_one(BenchView)._drawn_at > 0)
        await pilot.pause()
        yield app, pilot


async def until(pilot, predicate, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline, "it did not come about"
        await pilot.pause(0.02)


async def drawn(app, pilot) -> None:
    app.query_one(BenchView).draw()
    await pilot.pause()


def screen_lines(app) -> list[str]:
    return ["".join(segment.text for segment in line) for line in app.screen._compositor.render_strips()]


async def test_the_wide_bench_tells_nodes_models_and_the_detail_of_the_cursor():
    async with bench(*fleet()) as (app, _):
        nodes = "\n".join(app.query_one(NodeList).lines)
        assert "atlas" in nodes and "2×RTX 4090" in nodes and "up 3d" in nodes
        assert "20.0/24.0G  97% 71°C 402W" in nodes and "12.0/64.0G   9%" in nodes
        models = app.query_one(ModelTable).lines
        assert "● ready" in models[0] and "17.0G   32k  2/8+1   61.4" in models[0] and "Q4_K_M atlas:0" in models[0]
        assert "62%" in models[2] and "█" in models[2] and "shard 5/8" in models[2]
        assert "✗ failed" in models[3] and "not enough memory" in models[3]
        detail = app.query_one(Detail).text
        for fact in ("alpha", "/v1", "cuda:0 17.0G", "2 running  1 waiting", "61.4 now  88 peak", "p50 84ms p95 310ms"):
            assert fact in detail


async def test_the_detail_says_why_a_model_is_here_and_who_holds_a_part():
    nodes = fleet()
    parts = [ShardPart("atlas", "a", 20, 9 * GIB), ShardPart("hera\x1b[2J", "h", 12, 5 * GIB)]
    nodes[0].instances["alpha"] = model("alpha", placed="on atlas: all of it fits in the GPUs", shards=parts)
    async with bench(*nodes) as (app, pilot):
        text = app.query_one(Detail).text
        assert "on atlas: all of it fits in the GPUs" in text
        assert "20 layers on atlas, 12 layers on hera" in text and "\x1b" not in text
        await pilot.press("j")
        await pilot.pause()
        assert "layers on" not in app.query_one(Detail).text


async def test_the_detail_of_a_failed_model_says_why_and_what_to_try():
    async with bench(*fleet()) as (app, pilot):
        await pilot.press("G")
        text = app.query_one(Detail).text
        assert CAUSE in text and "launch it with a smaller context" in text and "r restart" in text


async def test_the_narrow_bench_is_one_tree_and_keeps_the_cursor_when_it_becomes_wide():
    async with bench(*fleet(), size=(80, 24)) as (app, pilot):
        tree = app.query_one(FleetTree)
        assert tree.display and not app.query_one(NodeList).display
        text = "\n".join(tree.lines)
        assert "▾ ● atlas" in text and "20.0/24.0G" in text and "alpha" in text and "62%" in text
        assert tree.move_to(key_of(Target("h", "delta")))
        await pilot.resize_terminal(120, 36)
        await until(pilot, lambda: app.query_one(ModelTable).has_focus)
        assert app.query_one(ModelTable).key == key_of(Target("h", "delta"))
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: tree.has_focus)
        assert tree.key == key_of(Target("h", "delta"))


async def test_a_node_of_the_tree_is_closed_and_opened():
    async with bench(*fleet(), size=(80, 24)) as (app, pilot):
        tree = app.query_one(FleetTree)
        before = len(tree.rows)
        await pilot.press("left")
        assert len(tree.rows) < before and tree.key == "node/a" and "▸" in tree.lines[0]
        await pilot.press("right")
        assert len(tree.rows) == before


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (160, 45), (60, 16)])
async def test_nothing_is_wider_than_the_screen_and_hostile_names_do_no_harm(size):
    nasty = "[red]x[/red]\x1b[31m\u202eabc\x00 名前 👨‍👩‍👧‍👦" + "y" * 200
    views = fleet()
    views[0].name = nasty
    views[0].instances["alpha"].cause = nasty
    views[1].instances["delta"].cause = nasty
    views[1].instances["gamma"].stage = nasty
    views[1].jobs = {"j": Job(id="j", kind="download", title=nasty, state="running", progress=0.5)}
    async with bench(*views, size=size) as (app, _):
        lines = screen_lines(app)
        assert len(lines) == size[1] and {cell_len(line) for line in lines} == {size[0]}
        text = "\n".join(lines)
        assert "\x1b" not in text and "\u202e" not in text and "[red]x[/red]" in text


async def test_what_is_equal_is_not_drawn_again():
    async with bench(*fleet()) as (app, pilot):
        await drawn(app, pilot)
        painted = []
        for widget in app.query("NodeList, ModelTable, Detail, JobsStrip"):
            widget.refresh = lambda *regions, widget=widget, **_: painted.append((widget.id, regions))
        await drawn(app, pilot)
        assert painted == []
        app.store.nodes["a"].instances["beta"].stats = InstanceStats(running=1, tokens_per_second=5.0)
        await drawn(app, pilot)
        assert {name for name, _ in painted} == {"models"} and [len(regions) for _, regions in painted] == [1]


async def test_the_cursor_stays_on_its_model_while_others_come_and_go():
    async with bench(*fleet()) as (app, pilot):
        models = app.query_one(ModelTable)
        models.move_to(key_of(Target("h", "gamma")))
        app.store.nodes["a"].instances = {f"new-{n}": model(f"new-{n}") for n in range(40)}
        await drawn(app, pilot)
        assert models.key == key_of(Target("h", "gamma"))
        await until(pilot, lambda: models.scroll_offset.y > 0)
        del app.store.nodes["h"].instances["gamma"]
        await drawn(app, pilot)
        assert models.key == key_of(Target("h", "delta"))


async def test_marked_models_are_chatted_with_together():
    async with bench(*fleet()) as (app, pilot):
        opened = []
        app.open_chat = lambda targets, **_: opened.append(targets)
        await pilot.press("enter")
        assert opened.pop() == [ATLAS]
        await pilot.press("space", "space", "b")
        assert opened.pop() == [ATLAS, Target("a", "beta")]
        assert "2 marked" in str(app.query_one("#models-box").border_title)
        await pilot.press("escape", "b")
        assert opened.pop() == app.store.targets()


async def test_chat_with_what_is_not_ready_is_refused_in_words():
    async with bench(*fleet()) as (app, pilot):
        await pilot.press("G", "enter")
        await until(pilot, lambda: bool(app._notifications))
        assert [note.message for note in app._notifications] == [
            "delta cannot answer now: only models that are ready can"
        ]


async def test_the_filter_hides_and_escape_brings_all_back():
    async with bench(*fleet()) as (app, pilot):
        models = app.query_one(ModelTable)
        await pilot.press("slash", *"hera fail", "enter")
        assert [row.key for row in models.rows] == [key_of(Target("h", "delta"))]
        assert models.has_focus and "filter: hera fail" in str(app.query_one("#models-box").border_title)
        await pilot.press("escape")
        assert len(models.rows) == 4


async def test_a_filter_that_nothing_matches_says_so():
    async with bench(*fleet()) as (app, pilot):
        await pilot.press("slash", *"[zz", "enter")
        assert app.query_one(ModelTable).lines == ["nothing matches '[zz'  —  esc clears the filter"]


async def test_sorting_goes_through_the_orders():
    async with bench(*fleet()) as (app, pilot):
        models = app.query_one(ModelTable)
        orders = []
        for _ in range(5):
            await pilot.press("s")
            orders.append([row.key.partition("\t")[2] for row in models.rows])
        assert orders == [
            ["alpha", "beta", "delta", "gamma"],
            ["delta", "gamma", "alpha", "beta"],
            ["alpha", "beta", "gamma", "delta"],
            ["alpha", "beta", "gamma", "delta"],
            ["alpha", "beta", "gamma", "delta"],
        ]


async def test_silent_gone_and_found_nodes_are_shown_as_such():
    now = time.time()
    slow = node("s", "slowpoke", status="slow", seen_at=now - 4, devices=[device()])
    gone = node("g", "leaver", "peer", "gone", seen_at=now - 250, devices=[device()])
    gone.instances = {"kept": model("kept")}
    found = NodeView("f", "laptop", "found", "alive", addresses=["10.0.0.30"])
    async with bench(*fleet(), slow, gone, found) as (app, pilot):
        nodes = "\n".join(app.query_one(NodeList).lines)
        assert "◐ slowpoke" in nodes and re.search(r"slow \d", nodes)
        assert "○ leaver" in nodes and "last seen 4m ago" in nodes
        assert "○ laptop" in nodes and "found, not paired" in nodes
        assert "○ gone" in app.query_one(ModelTable).lines[-1]
        app.query_one(NodeList).focus()
        app.query_one(NodeList).move_to("node/f")
        await until(pilot, lambda: "not paired" in app.query_one(Detail).text)


async def test_an_age_goes_on_by_itself_and_only_while_one_is_shown():
    async with bench(*fleet()) as (app, pilot):
        view = app.query_one(BenchView)
        assert not view._age_timer._active.is_set()
        app.store.nodes["h"].seen_at = time.time() - 57
        app.store.set_status("h", "gone")
        await until(pilot, lambda: "last seen 5" in "\n".join(app.query_one(NodeList).lines))
        await until(pilot, lambda: "last seen 1m ago" in "\n".join(app.query_one(NodeList).lines), 10)


async def test_the_url_for_programs_is_copied():
    async with bench(*fleet()) as (app, pilot):
        await pilot.press("y")
        assert app.clipboard == f"{app.store.nodes['a'].endpoint}/v1"


async def test_details_name_the_equal_command():
    async with bench(*fleet()) as (app, pilot):
        await pilot.press("e")
        await until(pilot, lambda: type(app.screen).__name__ == "Details")
        assert app.screen.command.startswith("xin launch alpha --engine llama.cpp")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, BenchScreen))


async def test_stopping_asks_first_and_a_no_keeps_the_marks():
    async with bench(*fleet()) as (app, pilot):
        await pilot.press("space", "x")
        await until(pilot, lambda: type(app.screen).__name__ == "Confirm")
        assert app.screen.command == "xin terminate alpha"
        question = "\n".join(screen_lines(app))
        assert "Stop alpha? 3 requests under way would be cut off." in question
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, BenchScreen))
        assert app.query_one(BenchView).marked == {ATLAS}


@pytest.mark.parametrize("key", ["x", "X", "r", "l"])
async def test_a_readonly_bench_changes_nothing(key):
    async with bench(*fleet(), readonly=True) as (app, pilot):
        await pilot.press(key)
        await until(pilot, lambda: bool(app._notifications))
        assert isinstance(app.screen, BenchScreen)


async def test_jobs_have_their_own_keys_while_the_strip_has_the_focus():
    views = fleet()
    views[0].jobs = {
        "1": Job(
            id="1", kind="download", title="big", state="running", progress=0.31, seconds_left=199.0, actions=["pause"]
        ),
        "2": Job(id="2", kind="launch", title="m", state="failed", cause=CAUSE, created_at=1, ended_at=time.time()),
        "3": Job(id="3", kind="launch", title="m", state="failed", cause="again", created_at=2, ended_at=time.time()),
        "4": Job(id="4", kind="install", title="done one", state="done", progress=1.0),
    }
    async with bench(*views) as (app, pilot):
        strip = app.query_one(JobsStrip)
        assert len(strip.lines) == 2 and "31%" in strip.lines[0] and "3:19 left" in strip.lines[0]
        assert "again" in strip.lines[1]
        opened = []
        app.open_job = lambda *at: opened.append(at)
        strip.focus()
        await until(
            pilot, lambda: "pause_job" in {b.action for b in (a.binding for a in app.screen.active_bindings.values())}
        )
        await pilot.press("enter")
        assert opened == [("a", "1")]
        keys = {active.binding.key: active.binding.action for active in app.screen.active_bindings.values()}
        assert keys["x"] == "cancel_job"
        app.query_one(ModelTable).focus()
        await until(pilot, lambda: app.query_one(ModelTable).has_focus)
        keys = {active.binding.key: active.binding.action for active in app.screen.active_bindings.values()}
        assert keys["x"] == "stop"


async def test_without_jobs_there_is_no_strip():
    async with bench(*fleet()) as (app, _):
        assert not app.query_one(JobsStrip).display


async def test_without_a_node_the_bench_says_what_to_do():
    async with bench() as (app, pilot):
        app.store.set_link("lost", None, "no xin node answers on this machine")
        await drawn(app, pilot)
        text = app.query_one(Launchables).text
        assert "no xin node answers" in text and "s  start one here" in text and "a  add one" in text


async def test_an_empty_bench_offers_what_would_run_well_too():
    advice = Recommendation(
        model_name="qwen3:4b-Q4_K_M",
        quantization="Q4_K_M",
        model_format="gguf",
        model_engine="llama.cpp",
        model_size_in_billions=4,
        context_length=8192,
        weights_bytes=5 * 2**29,
        fetch_bytes=5 * 2**29,
        need_bytes=4 * 2**30,
        device_id="cpu",
        device_name="cpu",
        tokens_per_second=11.6,
    )
    at_hand = msgspec.structs.replace(advice, model_name="here", fetch_bytes=0)
    echo = LocalModel(model_name="echo", model_engine="echo", model_format="echo", quantization="none")
    async with bench(node("a", "one", "self", devices=[ram()])) as (app, pilot):
        view = app.screen.query_one(BenchView)
        view.launchables, view.recommended = [echo], [advice, at_hand]
        view.draw()
        await drawn(app, pilot)
        offer = app.query_one(Launchables)
        assert len(offer.list.lines) == 2  # what is here is listed once, by its own row
        assert "qwen3:4b-Q4_K_M" in offer.list.lines[0] and "to fetch, ~12 tok/s" in offer.list.lines[0]
        assert "2.5" in offer.list.lines[0] and "echo" in offer.list.lines[1] and "to fetch" in offer.text
        assert view.offered is not None
        request = request_of(view.offered)
        assert (request.model_name, request.quantization) == ("qwen3:4b-Q4_K_M", "Q4_K_M")


async def test_zoom_shows_one_panel_and_escape_all():
    async with bench(*fleet()) as (app, pilot):
        await pilot.press("z")
        await until(pilot, lambda: app.screen.maximized is not None)
        assert app.query_one(ModelTable).region.width > 110
        await pilot.press("escape")
        await until(pilot, lambda: app.screen.maximized is None)


async def test_ascii_is_ascii():
    try:
        async with bench(*fleet(), ascii=True) as (app, _):
            lines = [*app.query_one(NodeList).lines, *app.query_one(ModelTable).lines]
            assert all(line.isascii() for line in lines) and app.query_one(Detail).text.isascii()
    finally:
        glyphs.set_ascii(False)


def test_every_key_has_an_id_and_tells_what_it_does():
    bindings = [*BenchScreen.BINDINGS, *NodeList.__mro__[1].BINDINGS, *FleetTree.BINDINGS]
    assert len({binding.id for binding in bindings}) == len(bindings)
    assert all(binding.id and binding.tooltip for binding in bindings)


def test_what_fits_comes_first_and_the_largest_of_it():
    def local(name: str, gib: float) -> LocalModel:
        weights = [f"/{name}"] if gib else []
        return LocalModel(
            model_name=name,
            model_engine="llama.cpp",
            model_format="gguf",
            quantization="Q4_0",
            weights=weights,
            size_bytes=int(gib * GIB),
        )

    view = node("a", "atlas", devices=[ram(used=54, total=64)])
    models = [local("echo", 0), local("small", 1), local("tight", 20), local("huge", 100), local("good", 8)]
    ranked = [(one.model_name, verdict) for one, verdict in ranked_models(models, view)]
    assert ranked == [("good", "fits"), ("small", "fits"), ("echo", "fits"), ("tight", "tight"), ("huge", "short")]


@pytest.mark.parametrize("theme", ["xin-dark", "textual-light", "ansi-dark"])
async def test_muted_text_is_less_than_the_foreground_in_every_theme(theme):
    async with bench(*fleet()) as (app, pilot):
        app.theme = theme
        await pilot.pause()
        shown = {name: app.theme_variables[name] for name in ("text-muted", "text-disabled", "foreground-disabled")}
        assert not any(value.startswith("auto") for value in shown.values()), shown
        assert app.theme_variables["foreground"] not in shown.values()


async def test_another_theme_is_drawn_with_its_colours():
    def colour() -> object:
        line = next(line for line in app.screen._compositor.render_strips() if "alpha" in "".join(s.text for s in line))
        return next(segment.style.color for segment in line if "ready" in segment.text)

    async with bench(*fleet()) as (app, pilot):
        before = colour()
        app.theme = "textual-light"
        await until(pilot, lambda: colour() != before)


async def test_readings_of_several_nodes_are_drawn_once_a_second():
    async with bench(*fleet()) as (app, pilot):
        view = app.query_one(BenchView)
        draws = []
        drawn_by_itself = view.draw
        view.draw = lambda: (draws.append(time.monotonic()), drawn_by_itself())
        began = time.monotonic()
        while time.monotonic() - began < 2.5:
            app.store.changed("samples")
            await pilot.pause(0.05)
        assert 1 <= len(draws) <= 3
        count = len(draws)
        app.store.changed("instances")
        await until(pilot, lambda: len(draws) > count, 0.9)
