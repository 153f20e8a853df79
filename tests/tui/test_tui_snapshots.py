"""How the workbench looks: every place and the dialogs at 80x24 and 120x36. `make snap` writes the pictures anew."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up_fleet import ATLAS, MINI, NOW, cpu, node, snapshot
from snapshots import UPDATE, check
from still import StillWorkbench, session
from textual.pilot import Pilot
from textual.widgets import Input, TextArea
from waiting import until

from xin.sessions import export
from xin.tui.screens.chat import ChatScreen

SIZES = [(80, 24), (120, 36)]
SETTLED_SECONDS = 5.0
Story = Callable[[StillWorkbench, Pilot[Any]], Awaitable[None]]
STORIES: dict[str, Story] = {}


def story(tell: Story) -> Story:
    STORIES[tell.__name__.replace("_", "-")] = tell
    return tell


@pytest.fixture(autouse=True)
def frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No clock goes and no cursor blinks."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setattr(Input, "cursor_blink", False)
    monkeypatch.setattr(TextArea, "cursor_blink", False)
    yield
    monkeypatch.undo()
    time.tzset()


@story
async def bench(app: StillWorkbench, pilot: Pilot[Any]) -> None:
    await until(lambda: "context is shorter" in words(app))


@story
async def bench_node(app: StillWorkbench, pilot: Pilot[Any]) -> None:
    await until(lambda: "context is shorter" in words(app))
    await pilot.press("tab", "g")


@story
async def bench_failed(app: StillWorkbench, pilot: Pilot[Any]) -> None:
    await until(lambda: "context is shorter" in words(app))
    await pilot.press("slash")
    await until(lambda: isinstance(app.focused, Input))
    await pilot.press(*"phi", "enter")
    await until(lambda: "qwen3-8b" not in words(app) and not isinstance(app.focused, Input))
    await go_to(app, pilot, "phi-4")
    await until(lambda: app.size.height < 30 or "failed to allocate" in words(app))


@story
async def bench_marked(app: StillWorkbench, pilot: Pilot[Any]) -> None:
    await until(lambda: "context is shorter" in words(app))
    for uid in ("qwen3-8b", "llama-3.1-8b-instruct"):
        await go_to(app, pilot, uid)
        await pilot.press("space")
    await until(lambda: "2 marked" in words(app) and "context is shorter" in words(app))


@story
async def bench_empty(app: StillWorkbench, pilot: Pilot[Any]) -> None:
    for node_id in list(app.store.nodes):
        app.store.forget(node_id)
    snapshot(app.store, node(ATLAS, "atlas", [cpu(16, 3, 4)], 0.2), [], "self")
    await until(lambda: "smollm2" in words(app))


@story
async def bench_lost(app: StillWorkbench, pilot: Pilot[Any]) -> None:
    await until(lambda: "context is shorter" in words(app))
    app.store.set_link("lost", None, "connection refused")
    for node_id in app.store.nodes:
        if node_id != MINI:
            app.store.set_status(node_id, "gone")
    await until(lambda: "lost" in words(app))


@story
async def chat(app: StillWorkbench, pilot: Pilot[Any]) -> None:
    await pilot.press("2")
    await until(lambda: isinstance(app.screen, ChatScreen) and app.screen.is_mounted)
    stored = app.sessions.load(app.sessions.import_json(export.json(session())))
    app.screen.show_session(stored, "and how is that different from GROUP BY?")  # type: ignore[attr-defined]
    await until(lambda: "window function" in words(app) and "GROUP BY?" in words(app))


@story
async def jobs(app: StillWorkbench, pilot: Pilot[Any]) -> None:
    await pilot.press("3")
    await until(lambda: "loading tensors, 62" in words(app))


@story
async def logs(app: StillWorkbench, pilot: Pilot[Any]) -> None:
    await pilot.press("4")
    await until(lambda: words(app).count("loading tensors") >= 5)
    await pilot.press("G")


@story
async def launch(app: StillWorkbench, pilot: Pilot[Any]) -> None:
    await pilot.press("l")
    await until(lambda: "qwen3-8b" in words(app))
    await pilot.press("enter")
    await until(lambda: "Q4_K_M" in words(app) and "context" in words(app))


@story
async def stop(app: StillWorkbench, pilot: Pilot[Any]) -> None:
    await until(lambda: "context is shorter" in words(app))
    await go_to(app, pilot, "qwen3-8b")
    await until(lambda: "context is shorter" in words(app))
    await pilot.press("x")
    await until(lambda: "xin terminate" in words(app))


@story
async def help(app: StillWorkbench, pilot: Pilot[Any]) -> None:
    await until(lambda: "context is shorter" in words(app))
    await pilot.press("question_mark")
    await until(lambda: "broadcast" in words(app).lower() or "mark" in words(app).lower())


async def go_to(app: StillWorkbench, pilot: Pilot[Any], uid: str) -> None:
    """The cursor on the model's row, wherever it is."""
    await pilot.press("g")
    await asyncio.sleep(0.15)
    for _ in range(20):
        if f"─ {uid}" in words(app):
            return
        await pilot.press("down")
        await asyncio.sleep(0.15)  # the detail, whose title tells the row, follows the cursor
    raise AssertionError(f"no row of {uid}")


def words(app: StillWorkbench) -> str:
    """What the screen shows, row by row."""
    lines = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in line) for line in lines)


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x36"])
@pytest.mark.parametrize("name", STORIES)
async def test_it_looks_as_it_did(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    app = StillWorkbench(tmp_path)
    async with app.run_test(size=size) as pilot:
        try:
            await STORIES[name](app, pilot)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{words(app)}") from None
        if UPDATE:
            await asyncio.sleep(0.5)
        deadline = time.monotonic() + SETTLED_SECONDS
        while True:  # what is still being drawn is given time; what is different stays so
            await pilot.pause()
            try:
                return check(app, f"{name}-{size[0]}x{size[1]}", tmp_path)
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.1)
