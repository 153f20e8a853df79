"""The Logs place: merged by time, filters that hide, search, errors, sources, follow; and 100,000 lines stay fast."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from job_places import type_in, workbench
from live_node import LiveNode
from textual.app import App, ComposeResult
from waiting import came as until
from waiting import screen

from xin.client import Client
from xin.protocol.node import LogLine
from xin.tui.app import Workbench
from xin.tui.log_book import Folding, Line, LogBook, compile_pattern, line_of
from xin.tui.settings import TuiSettings
from xin.tui.store import Target
from xin.tui.widgets.log_view import LogView, plain, text_of


@pytest.fixture
def node(tmp_path: Path) -> Iterator[LiveNode]:
    with LiveNode(tmp_path / "node", name="hera") as node:
        yield node


def line(at: float, message: str = "", uid: str = "m", level: str = "info") -> Line:
    return line_of(Target("n", uid), "hera", LogLine(at, level, "worker", message or f"line {at}"))


# ---- the book


def test_lines_of_several_sources_stand_by_time_however_they_come():
    book = LogBook()
    times = [float(at) for at in range(500)]
    random.Random(1).shuffle(times)
    for start in range(0, 500, 7):
        book.add(line(at, uid=f"m{int(at) % 3}") for at in times[start : start + 7])
    assert [one.at for one in book.lines] == [one.at for one in book.shown] == sorted(times)


def test_a_filter_hides_and_what_comes_later_passes_it_too():
    book = LogBook()
    book.add([line(1, "apple"), line(3, "banana", level="error"), line(4, "noise", level="debug")])
    assert [one.message for one in book.shown] == ["apple", "banana"]
    book.pattern = compile_pattern("an+a")
    book.refilter()
    book.add([line(2, "ananas"), line(5, "cherry")])
    assert [one.message for one in book.shown] == ["ananas", "banana"]
    book.pattern, book.level, book.sources = None, "error", frozenset({Target("n", "m")})
    book.refilter()
    assert [one.message for one in book.shown] == ["banana"]
    book.sources = frozenset({Target("n", "other")})
    book.refilter()
    assert book.shown == [] and len(book.lines) == 5


def test_capitals_count_only_when_there_are_some_and_a_bad_expression_is_an_error():
    assert compile_pattern("warn").search("WARNING") and not compile_pattern("Warn").search("WARNING")  # type: ignore[union-attr]
    assert compile_pattern(r"\Sx") is not None and compile_pattern("") is None
    with pytest.raises(re.error):
        compile_pattern("(")


def test_escape_bytes_and_the_doubled_level_are_gone():
    made = line(1, "\x1b[31mERROR xin.worker: load\x00 failed\x1b[0m", level="error")
    assert made.message == "xin.worker: load failed"
    assert "error xin.worker: load failed" in plain(made) and "hera m" in plain(made)


def test_the_oldest_lines_go_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr("xin.tui.log_book.MOST_LINES", 100)
    monkeypatch.setattr("xin.tui.log_book.DROPPED_AT_ONCE", 30)
    book = LogBook()
    for at in range(150):
        book.add([line(at)])
    assert 70 <= len(book.lines) <= 100 and book.lines == book.shown and book.lines[-1].at == 149
    assert book.counts[Target("n", "m")] == len(book.lines)


TRACEBACK = [
    "before",
    "Traceback (most recent call last):",
    '  File "a.py", line 1, in <module>',
    "    load()",
    "ValueError: no such weights",
    "after",
]


def folded(texts: list[str], uid: str = "m") -> list[Line]:
    folding = Folding()
    return [folding.take(line(at, text, uid)) for at, text in enumerate(texts)]


def test_a_traceback_is_one_line_and_its_error_until_it_is_opened():
    book = LogBook()
    book.add(folded(TRACEBACK))
    head = book.lines[1]
    closed = [TRACEBACK[at] for at in (0, 1, 4, 5)]
    assert [one.message for one in book.shown] == closed
    assert text_of(head) == "Traceback ▸ 2 more lines ↵"
    assert [one.message for one in book.whole()] == TRACEBACK
    book.toggle(head.fold)
    assert [one.message for one in book.shown] == TRACEBACK and text_of(head).endswith("▾")
    book.toggle(head.fold)
    assert [one.message for one in book.shown] == closed
    book.pattern = compile_pattern("load")
    book.refilter()
    assert [one.message for one in book.shown] == ["    load()"]


def test_lines_of_others_are_no_part_of_a_traceback():
    folding = Folding()
    head = folding.take(line(1, TRACEBACK[1]))
    node = folding.take(line_of(Target("n", "m"), "hera", LogLine(2, "info", "node", "  indented")))
    inside = folding.take(line(3, "  File"))
    assert node.fold is None and inside.fold is head.fold and inside.inside
    assert folding.take(line(4, "KeyError")).fold is None
    assert folding.take(line(5, "  indented, but after it")).fold is None


# ---- the view


class Viewer(App[None]):
    def __init__(self, book: LogBook) -> None:
        super().__init__()
        self.book = book

    def compose(self) -> ComposeResult:
        yield LogView(self.book)


def shown(app) -> list[str]:
    view = app.query_one(LogView)
    return ["".join(segment.text for segment in view.render_line(y)).rstrip() for y in range(view.size.height)]


async def costs_of(lines: int) -> dict[str, float]:
    """Seconds of CPU, the least of three, of what is done to a log of so many lines."""
    book = LogBook()
    book.add(line(at / 100, f"request {at} took {at % 977} ms", uid=f"m{at % 5}") for at in range(lines))
    start = lines / 100
    async with Viewer(book).run_test(size=(120, 36)) as pilot:
        view = pilot.app.query_one(LogView)
        costs: dict[str, float] = {}
        for _ in range(3):
            book.pattern = None
            book.refilter()
            view.wrap = False
            view.relay()
            for name, act in {
                "show": view.sync,
                "append": lambda: (book.add([line(book.lines[-1].at + n) for n in range(50)]), view.sync()),
                "page": lambda: [view.action_page(-1) or shown(pilot.app) for _ in range(10)],
                "late": lambda: (book.add([line(start - 0.5, "late")]), view.sync()),
                "filter": lambda: (
                    setattr(book, "pattern", compile_pattern("took 97[0-6] ms")),
                    book.refilter(),
                    view.sync(),
                ),
                "wrap": lambda: (setattr(view, "wrap", True), view.relay()),
            }.items():
                began = time.process_time()
                act()
                costs[name] = min(costs.get(name, 9e9), time.process_time() - began)
                await pilot.pause()
            assert len(book.shown) == sum(970 <= at % 977 <= 976 for at in range(lines))
        return costs


async def test_a_hundred_thousand_lines_are_scrolled_filtered_and_appended_at_once():
    few, many = await costs_of(1_000), await costs_of(100_000)
    for name in ("show", "append", "page"):
        assert many[name] < 5 * few[name] + 0.02, (name, few, many)  # what is in sight, not what there is
    for name in ("late", "filter", "wrap"):
        assert many[name] < 300 * few[name] + 0.1, (name, few, many)  # once over all of them


async def test_the_cursor_stays_with_its_line_when_earlier_ones_arrive():
    book = LogBook()
    book.add(line(at) for at in range(0, 200, 2))
    async with Viewer(book).run_test(size=(60, 10)) as pilot:
        view = pilot.app.query_one(LogView)
        view.sync()
        assert view.following and view.cursor == 99
        await pilot.press("up", "up")
        kept = view.line
        assert not view.following and kept is not None and kept.at == 194
        book.add([line(1), line(3), line(199)])
        view.sync()
        await pilot.pause()
        assert view.line is kept and any("line 194" in text for text in shown(pilot.app))
        await pilot.press("G")
        assert view.following and view.line.at == 199


async def test_wrapped_lines_are_whole_and_wide_signs_keep_to_the_cells():
    book = LogBook()
    book.add([line(1, "word " * 40 + "end"), line(2, "错误" * 60), line(3, "👩‍👩‍👧 [/b] [red]markup[/]")])
    async with Viewer(book).run_test(size=(60, 20)) as pilot:
        view = pilot.app.query_one(LogView)
        view.sync()
        await pilot.pause()
        assert not any("end" in text for text in shown(pilot.app))
        view.wrap = True
        view.relay()
        await pilot.pause()
        text = "\n".join(shown(pilot.app))
        assert "end" in text and text.count("错") == 60 and "[red]markup[/]" in text
        assert {view.render_line(y).cell_length for y in range(view.size.height)} == {60}


async def test_a_key_opens_a_traceback_and_the_cursor_stays_with_it(tmp_path):
    app = Workbench(None, connect=False, settings=TuiSettings(start="logs"))
    async with app.run_test(size=(120, 36)) as pilot:
        book, view = app.screen.book, app.screen.view
        book.add(folded(TRACEBACK))
        view.sync()
        await until(pilot, lambda: "Traceback ▸ 2 more lines ↵" in screen(app) and "load()" not in screen(app))
        await pilot.press("enter")
        assert "load()" not in screen(app)
        await pilot.press("up", "up", "enter")
        await until(pilot, lambda: "load()" in screen(app))
        assert view.line is book.lines[1] and not view.following
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: "load()" not in screen(app))
        assert view.line is book.lines[1]


# ---- the place


@pytest.mark.parametrize("size", [(120, 36), (80, 24)])
async def test_lines_of_all_models_come_by_themselves_and_a_filter_hides(node, size):
    with Client(node.url) as client:
        client.start_job("launch", model_name="echo", model_uid="first")
        async with workbench(node, "logs", size) as (app, pilot):
            await until(pilot, lambda: "first" in screen(app) and "ready in" in screen(app))
            client.start_job("launch", model_name="echo", model_uid="second", fail_load="cursed weights")
            await until(pilot, lambda: "failed: cursed weights" in screen(app))
            assert "follow ON" in screen(app)
            await pilot.press("ampersand")
            await type_in(pilot, "cursed")
            await until(pilot, lambda: "ready in" not in screen(app) and "filter /cursed/" in screen(app))
            await type_in(pilot, "(")
            await until(pilot, lambda: "is no regular expression yet" in screen(app))
            await pilot.press("enter")
            assert app.screen.prompt.has_focus
            await pilot.press("backspace", "enter", "escape")
            await until(pilot, lambda: "ready in" in screen(app))


async def test_a_dead_models_cause_stands_in_words(node):
    with Client(node.url) as client:
        client.start_job("launch", model_name="echo", model_uid="greedy", oom=True)
        async with workbench(node, "logs") as (app, pilot):
            await until(pilot, lambda: "told to run out of memory" in screen(app))
            await pilot.press("e")
            await until(pilot, lambda: "greedy failed: echo was told" in screen(app))
            assert "launch it without oom" in screen(app) and "r restart" in screen(app)
            await pilot.press("r")
            await until(pilot, lambda: sum("told to run" in line.message for line in app.screen.book.lines) >= 3)


async def test_find_next_levels_times_and_sources(node):
    with Client(node.url) as client:
        for uid in ("one", "two"):
            client.start_job("launch", model_name="echo", model_uid=uid)
        async with workbench(node, "logs") as (app, pilot):
            book, view = app.screen.book, app.screen.view
            await until(pilot, lambda: sum("ready in" in line.message for line in book.lines) == 2)
            await pilot.press("slash")
            await type_in(pilot, "ready")
            await pilot.press("enter")
            first = view.cursor
            await pilot.press("n")
            assert view.cursor != first and "ready" in view.line.message and "find /ready/" in screen(app)
            await pilot.press("N")
            assert view.cursor == first and not view.following
            await pilot.press("v", "v")
            await until(pilot, lambda: book.level == "error" and not book.shown and "level ERROR" in screen(app))
            await pilot.press("v", "v", "t", "w")
            assert book.level == "info" and view.times == "millis" and "wrap on" in screen(app)
            await pilot.press("f2")
            await until(pilot, lambda: app.screen.source_list.has_focus)
            await pilot.press("down", "space")
            await until(pilot, lambda: {line.target.uid for line in book.shown} == {"one"})
            await pilot.press("up", "enter")
            await until(pilot, lambda: {line.target.uid for line in book.shown} == {"one", "two"})


async def test_what_is_shown_is_saved_and_copied(node, xin_home):
    with Client(node.url) as client:
        client.start_job("launch", model_name="echo", model_uid="writer")
        async with workbench(node, "logs") as (app, pilot):
            await until(pilot, lambda: "ready in" in screen(app))
            await pilot.press("y")
            assert app.clipboard == plain(app.screen.view.line)
            await pilot.press("Y")
            assert app.clipboard == "".join(f"{plain(line)}\n" for line in app.screen.book.shown)
            await pilot.press("s")
            folder = xin_home / "state" / "saved"
            await until(pilot, lambda: list(folder.glob("logs-*.txt")))
            assert "writer" in next(folder.glob("logs-*.txt")).read_text()
