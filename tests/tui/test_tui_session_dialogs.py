"""The dialogs of the chat: panes, settings, votes, differences, sessions, export; at 80x24 and at 120x36."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from made_up_fleet import fill
from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Input, Static, TextArea
from waiting import until

from xin.sessions.records import PaneRecord, Standing
from xin.sessions.store import SessionStore
from xin.tui.app import Workbench
from xin.tui.chat.compare import CompareStrip
from xin.tui.chat.votes import Blind, Candidate
from xin.tui.dialogs.confirm import Confirm
from xin.tui.dialogs.dialog import Dialog
from xin.tui.dialogs.export import ExportDialog, file_name
from xin.tui.dialogs.model_choice import ModelChoice
from xin.tui.dialogs.panes import NEW, PanesDialog
from xin.tui.dialogs.params import ParamsDialog
from xin.tui.dialogs.session_picker import SessionPicker
from xin.tui.dialogs.typing import OneLine
from xin.tui.dialogs.vote import VoteDialog, VoteResult
from xin.tui.dialogs.word_diff import Answer, WordDiff
from xin.tui.settings import TuiSettings
from xin.tui.store import Target
from xin.tui.widgets.row_list import RowList

SIZES = [(80, 24), (120, 36)]
ODD = "[red]x[/red] \x1b[31m 中文\r\n🙂"


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[SessionStore]:
    with SessionStore(tmp_path / "sessions.db") as store:
        yield store


class Opened:
    """A dialog over an empty workbench, and what it was dismissed with."""

    def __init__(self, app: Workbench, pilot: Pilot[Any], dialog: Dialog[Any]) -> None:
        self.app, self.pilot, self.dialog = app, pilot, dialog
        self.results: list[Any] = []

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def type(self, text: str) -> None:
        await self.pilot.press(*("space" if char == " " else char for char in text))

    async def screen(self, kind: type[Any]) -> Any:
        await until(lambda: isinstance(self.app.screen, kind) and self.app.screen.is_mounted, what=kind)
        return self.app.screen

    async def result(self) -> Any:
        await until(lambda: self.results, what="no result")
        return self.results[0]

    def text(self, selector: str) -> str:
        return self.dialog.query_one(selector, Static).render().plain  # type: ignore[union-attr]

    @property
    def lines(self) -> list[str]:
        return self.dialog.query_one(RowList).lines


@asynccontextmanager
async def opened(
    dialog: Dialog[Any], sessions: SessionStore, size: tuple[int, int] = (80, 24)
) -> AsyncIterator[Opened]:
    app = Workbench(None, connect=False, sessions=sessions, settings=TuiSettings())
    async with app.run_test(size=size) as pilot:
        fill(app.store)
        made = Opened(app, pilot, dialog)
        app.push_screen(dialog, made.results.append)
        await until(lambda: app.screen is dialog and dialog.is_mounted)
        await pilot.pause()
        yield made


def fits(app: Workbench) -> None:
    """The frame and all that is shown in it lie within the screen, and nothing is cut off at its right."""
    width, height = app.size
    frame = app.screen.query_one("#dialog").region
    assert frame.x >= 0 and frame.y >= 0 and frame.right <= width and frame.bottom <= height, frame
    command = app.screen.query_one("#dialog-command")
    if command.display:
        assert command.region.bottom < frame.bottom, "the command is cut off"
    keys = app.screen.query_one("#dialog").border_subtitle
    assert cell_len(keys) <= frame.width - 4, keys


# ---- panes


def two_panes() -> list[PaneRecord]:
    a, b = qwen(), llama()
    return [PaneRecord(0, a.uid, a.node_id, "Be brief.", {"temperature": 0.7}), PaneRecord(1, b.uid, b.node_id)]


def qwen() -> Target:
    return Target("a" * 16, "qwen3-8b-instruct")


def llama() -> Target:
    return Target("a" * 16, "llama-3.1-8b-instruct")


@pytest.mark.parametrize("size", SIZES)
async def test_panes_are_listed_with_model_node_and_settings(sessions: SessionStore, size: tuple[int, int]) -> None:
    async with opened(PanesDialog(two_panes()), sessions, size) as on:
        fits(on.app)
        assert "qwen3-8b" in on.lines[0] and "@atlas" in on.lines[0] and "system · T 0.7" in on.lines[0]
        assert on.dialog.command.startswith("xin chat qwen3-8b")


async def test_panes_change_order_and_go(sessions: SessionStore) -> None:
    async with opened(PanesDialog(two_panes()), sessions) as on:
        await on.press("J")
        assert [line.split()[0] for line in on.lines] == ["1", "2"]
        assert "llama" in on.lines[0]
        await on.press("alt+up", "x", "enter")
        assert [pane.index for pane in await on.result()] == [1]


async def test_a_pane_is_added_beside_the_cursor_with_its_settings(sessions: SessionStore) -> None:
    async with opened(PanesDialog(two_panes()), sessions) as on:
        await on.press("a")
        choice = await on.screen(ModelChoice)
        fits(on.app)
        await on.type("gemma")
        await until(lambda: len(choice.query_one(RowList).lines) == 1)
        await on.press("enter")
        await until(lambda: len(on.lines) == 3)
        assert "gemma" in on.lines[1] and "new" in on.lines[1]
        await on.press("enter")
        first, added, last = await on.result()
        assert (added.index, added.system, added.sampling) == (NEW, "Be brief.", {"temperature": 0.7})
        assert (first.index, last.index) == (0, 1)
        assert added.sampling is not first.sampling


async def test_a_pane_gets_another_model_and_stays_itself(sessions: SessionStore) -> None:
    async with opened(PanesDialog(two_panes()), sessions) as on:
        await on.press("m")
        choice = await on.screen(ModelChoice)
        await on.type("llama")
        await until(lambda: len(choice.query_one(RowList).lines) == 1)
        await on.press("enter")
        await until(lambda: "llama" in on.lines[0])
        await on.press("enter")
        assert (await on.result())[0] == PaneRecord(0, llama().uid, llama().node_id, "Be brief.", {"temperature": 0.7})


async def test_esc_leaves_the_panes_alone(sessions: SessionStore) -> None:
    async with opened(PanesDialog(two_panes()), sessions) as on:
        await on.press("x", "x", "x", "J", "K")
        assert on.lines == ["no pane: a adds one"]
        await on.press("escape")
        assert await on.result() is None


async def test_a_model_that_does_not_run_is_said_in_words(sessions: SessionStore) -> None:
    async with opened(PanesDialog([PaneRecord(0, ODD, "gone")]), sessions) as on:
        assert "not running" in on.lines[0]
        assert "\x1b" not in on.lines[0] and "[red]x" in on.lines[0]


async def test_no_model_is_found(sessions: SessionStore) -> None:
    async with opened(ModelChoice("Which"), sessions) as on:
        await on.press("down", "up")
        await on.type("narwhal")
        await until(lambda: on.lines == ["no running model is called that"])
        await on.press("enter", "escape")
        assert await on.result() is None


# ---- settings


@pytest.mark.parametrize("size", SIZES)
async def test_settings_are_shown_and_applied_to_one_pane(sessions: SessionStore, size: tuple[int, int]) -> None:
    panes = two_panes()
    panes[0].sampling["logit_bias"] = {"1": 2.0}
    async with opened(ParamsDialog(panes), sessions, size) as on:
        fits(on.app)
        inside = on.dialog.query_one("#dialog").content_region
        for box in on.dialog.query(Input):
            assert inside.contains_region(box.region), f"{box.id} is cut off at {size}"
        assert on.dialog.query_one("#param-temperature", Input).value == "0.7"
        on.dialog.query_one("#param-seed", Input).focus()
        await on.type("7")
        on.dialog.query_one(TextArea).focus()
        await on.type("!y")
        assert on.dialog.command == "xin run qwen3-8b-instruct --system 'Be brief.' --temperature 0.7 --seed 7" or (
            "--seed 7" in on.dialog.command and "--temperature 0.7" in on.dialog.command
        )
        await on.press("ctrl+s")
        first, second = await on.result()
        assert first.sampling == {"logit_bias": {"1": 2.0}, "temperature": 0.7, "seed": 7}
        assert sorted(first.system) == sorted("!yBe brief.")
        assert second == panes[1]


async def test_settings_for_all_panes(sessions: SessionStore) -> None:
    async with opened(ParamsDialog(two_panes(), 1), sessions) as on:
        assert "pane 2, llama" in on.text("#params-scope")
        await on.press("alt+a")
        assert "ALL 2 panes" in on.text("#params-scope")
        on.dialog.query_one("#param-stop", Input).focus()
        await on.type("END")
        await on.press("enter")
        assert [pane.sampling for pane in await on.result()] == [{"stop": ["END"]}] * 2
        assert [pane.system for pane in on.results[0]] == ["", ""]


async def test_bad_numbers_name_their_field(sessions: SessionStore) -> None:
    async with opened(ParamsDialog(two_panes()), sessions) as on:
        on.dialog.query_one("#param-top_p", Input).value = "2"
        on.dialog.query_one("#param-seed", Input).value = "many"
        await on.press("ctrl+s")
        assert on.results == []
        assert on.dialog.focused is on.dialog.query_one("#param-top_p")
        assert on.text("#params-help") == "✗ top_p: '2' is not a number from 0 to 1"
        assert {box.id for box in on.dialog.query("Input.-bad")} == {"param-top_p", "param-seed"}
        on.dialog.query_one("#param-seed", Input).focus()
        await until(lambda: "seed: 'many'" in on.text("#params-help"))
        await on.press("ctrl+r", "ctrl+s")
        assert (await on.result())[0] == PaneRecord(0, qwen().uid, qwen().node_id)


async def test_the_command_is_copied_with_alt_y_where_letters_are_typed(sessions: SessionStore) -> None:
    async with opened(ParamsDialog(two_panes()), sessions) as on:
        await on.press("alt+y")
        assert on.app.clipboard == on.dialog.command
        assert "alt+y copy" in on.text("#dialog-command")


# ---- votes


def answers() -> list[Candidate]:
    a, b = qwen(), llama()
    return [
        Candidate(0, a.uid, a.node_id, ttft_ms=84.0, tokens_per_second=61.0, completion_tokens=128),
        Candidate(1, b.uid, b.node_id, ttft_ms=90.0, tokens_per_second=86.0, completion_tokens=97),
    ]


@pytest.mark.parametrize("size", SIZES)
async def test_a_vote_is_kept_and_counted(sessions: SessionStore, size: tuple[int, int]) -> None:
    session = sessions.create("talk")
    async with opened(VoteDialog(session, 3, "why?", answers()), sessions, size) as on:
        fits(on.app)
        await until(lambda: "no votes yet" in on.text("#vote-lines"))
        assert "61 t/s" in on.text("#vote-lines")
        await on.press("2")
        await until(lambda: "1 won" in on.text("#vote-lines"))
        await on.press("1", "enter")
        assert await on.result() == VoteResult(llama().uid, 1)
        (vote,) = sessions.votes(session)
        assert (vote.turn, vote.winner, vote.blind) == (3, llama().uid, False)
        assert vote.candidates[0]["ttft_ms"] == 84.0
        assert sessions.tally()[0] == Standing(llama().uid, 1, 0, 0)


async def test_a_blind_vote_tells_the_names_afterwards(sessions: SessionStore) -> None:
    session = sessions.create("talk")
    blind = Blind([0, 1], seed=1)
    async with opened(VoteDialog(session, 1, "why?", answers(), blind), sessions) as on:
        await until(lambda: "answer A" in on.text("#vote-lines"))
        hidden = on.text("#vote-lines")
        assert not any(word in hidden for word in ("qwen", "llama", "t/s", "votes"))
        await on.press("1")
        await until(lambda: "1 won" in on.text("#vote-lines"))
        first = next(one for one in answers() if blind.name(one.pane) == "A")
        assert f"★ A = {first.model}" in on.text("#vote-lines")
        await on.press("escape")
        assert await on.result() == VoteResult(first.model, first.pane)
        assert sessions.votes(session)[0].blind


@pytest.mark.parametrize(("key", "word"), [("equals_sign", "tie"), ("0", "none")])
async def test_no_answer_need_win(sessions: SessionStore, key: str, word: str) -> None:
    session = sessions.create("talk")
    async with opened(VoteDialog(session, 1, "why?", answers()), sessions) as on:
        await on.press("3", "9", key, "enter")
        assert await on.result() == VoteResult(word, None)
        assert sessions.votes(session)[0].winner == word


async def test_a_vote_can_be_left(sessions: SessionStore) -> None:
    session = sessions.create("talk")
    async with opened(VoteDialog(session, 1, "why?", answers()), sessions) as on:
        await on.press("enter", "escape")
        assert await on.result() is None
        assert sessions.votes(session) == []


# ---- differences


@pytest.mark.parametrize("size", SIZES)
async def test_two_answers_are_compared(sessions: SessionStore, size: tuple[int, int]) -> None:
    three = [Answer("qwen", f"one two {ODD}\n" * 40, 128), Answer("llama", "one too", 97), Answer("x", "one two")]
    async with opened(WordDiff(three), sessions, size) as on:
        fits(on.app)
        await until(lambda: "128 vs 97 tok" in on.text("#diff-header"))
        assert "\x1b" not in on.text("#diff-left-text")
        await until(lambda: on.dialog.query_one("#diff-left").max_scroll_y > 10)
        await on.press("down", "pagedown")
        assert on.dialog.query_one("#diff-left").scroll_offset.y > 1
        await on.press("]")
        await until(lambda: "128 vs 0 tok" in on.text("#diff-header"))
        await on.press("[", "[")
        await until(lambda: "97 vs 0 tok" in on.text("#diff-header"))
        await on.press("alt+d")
        assert await on.result() is None


# ---- sessions


def talks(sessions: SessionStore) -> list[int]:
    made = []
    for title, text in (("SQL windows", "OVER (ORDER BY id)"), ("odd " + ODD, ODD), ("中文", "窗口函数")):
        session = sessions.create(title, [PaneRecord(0, "qwen")])
        asked = sessions.add_message(session, 0, None, "user", "Explain.", turn=1)
        sessions.add_message(session, 0, asked, "assistant", text, model="qwen", turn=1)
        made.append(session)
    return made


@pytest.mark.parametrize("size", SIZES)
async def test_sessions_are_searched_as_one_types(sessions: SessionStore, size: tuple[int, int]) -> None:
    first, _, _ = talks(sessions)
    async with opened(SessionPicker(), sessions, size) as on:
        await until(lambda: len(on.lines) == 3)
        fits(on.app)
        assert all(cell_len(line) <= on.dialog.query_one(RowList).room for line in on.lines)
        assert not any("\x1b" in line for line in on.lines)
        await on.type("order by")
        await until(lambda: len(on.lines) == 1)
        assert "OVER (ORDER BY id)" in on.text("#session-about")
        assert on.dialog.command == f"xin sessions show {first}"
        await on.type(" zzz")
        await until(lambda: on.lines == ["nothing was found"])
        assert on.dialog.command == "xin sessions search 'order by zzz'"
        await on.press(*["backspace"] * 4)
        await until(lambda: len(on.lines) == 1 and "SQL" in on.lines[0])
        await on.press("enter")
        assert await on.result() == first


async def test_enter_opens_what_the_typed_words_will_find(sessions: SessionStore) -> None:
    first, *_ = talks(sessions)
    async with opened(SessionPicker(), sessions) as on:
        await until(lambda: len(on.lines) == 3)
        on.dialog.query_one(Input).value = "ORDER BY"
        await on.press("enter")
        assert await on.result() == first


async def test_the_arrows_choose_while_the_search_is_typed(sessions: SessionStore) -> None:
    first, *_ = talks(sessions)
    async with opened(SessionPicker(), sessions) as on:
        await until(lambda: len(on.lines) == 3)
        await on.press("down", "down", "up", "down", "enter")
        assert await on.result() == first


async def test_a_session_is_renamed(sessions: SessionStore) -> None:
    talks(sessions)
    async with opened(SessionPicker(), sessions) as on:
        await until(lambda: len(on.lines) == 3)
        await on.press("alt+r")
        line = await on.screen(OneLine)
        fits(on.app)
        line.query_one(Input).value = "  "
        await on.press("enter")
        assert on.app.screen is line
        line.query_one(Input).value = "Renamed 中"
        await on.press("enter")
        await until(lambda: on.lines[0].startswith("Renamed 中"))


async def test_a_session_is_deleted_after_a_question_but_never_the_open_one(sessions: SessionStore) -> None:
    first, second, third = talks(sessions)
    async with opened(SessionPicker(current=third), sessions) as on:
        await until(lambda: len(on.lines) == 3)
        await on.press("alt+x", "down", "alt+x")
        question = await on.screen(Confirm)
        assert question.command == f"xin sessions delete {second}"
        await on.press("escape")
        await until(lambda: on.app.screen is on.dialog)
        assert len(sessions.sessions()) == 3
        await on.press("alt+x")
        await on.screen(Confirm)
        await on.press("enter")
        await until(lambda: len(on.lines) == 2)
        assert [one.id for one in sessions.sessions()] == [third, first]


async def test_a_session_is_branched_and_opened(sessions: SessionStore) -> None:
    *_, third = talks(sessions)
    async with opened(SessionPicker(), sessions) as on:
        await until(lambda: len(on.lines) == 3)
        await on.press("alt+v")
        copy = await on.result()
        assert copy != third
        assert sessions.load(copy).title == "中文 (branch)"


async def test_there_are_no_sessions_yet(sessions: SessionStore) -> None:
    async with opened(SessionPicker(), sessions) as on:
        await until(lambda: on.lines == ["no sessions yet: what you ask is kept here"])
        await on.press("enter", "alt+r", "alt+v", "alt+x", "f8", "down", "pageup", "escape")
        assert await on.result() is None


async def test_a_file_that_cannot_be_read_is_told(sessions: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    talks(sessions)
    async with opened(SessionPicker(), sessions) as on:
        await until(lambda: len(on.lines) == 3)
        sessions.flush()
        with sqlite3.connect(sessions.path) as raw:
            raw.execute("DROP TABLE found")
        raw.close()
        await on.type("order")
        await until(lambda: any("could not be read" in str(one.message) for one in on.app._notifications))


# ---- export


@pytest.mark.parametrize("size", SIZES)
async def test_a_session_is_written_to_a_file(sessions: SessionStore, tmp_path: Path, size: tuple[int, int]) -> None:
    _, odd, _ = talks(sessions)
    async with opened(ExportDialog(odd, "odd/../x: 中文"), sessions, size) as on:
        fits(on.app)
        box = on.dialog.query_one(Input)
        assert box.value == "odd-..-x-中文.md"
        box.value = str(tmp_path / "talk.md")
        await on.press("down")
        assert box.value == str(tmp_path / "talk.json")
        assert on.dialog.command == f"xin sessions export {odd} -f json -o {tmp_path}/talk.json"
        await on.press("up")
        await on.press("enter")
        assert await on.result() == tmp_path / "talk.md"
    assert ODD.encode() in (tmp_path / "talk.md").read_bytes()


async def test_a_file_that_is_there_is_asked_about(sessions: SessionStore, tmp_path: Path) -> None:
    first, *_ = talks(sessions)
    path = tmp_path / "talk.html"
    path.write_text("before")
    async with opened(ExportDialog(first, path=str(path)), sessions) as on:
        await on.press("enter")
        await on.screen(Confirm)
        await on.press("escape")
        await until(lambda: on.app.screen is on.dialog)
        assert path.read_text() == "before"
        await on.press("enter")
        await on.screen(Confirm)
        await on.press("enter")
        assert await on.result() == path
    assert path.read_text().startswith("<!doctype html>")


async def test_what_cannot_be_written_is_told_there(sessions: SessionStore) -> None:
    first, *_ = talks(sessions)
    async with opened(ExportDialog(first, path="/nowhere/talk.md"), sessions) as on:
        await on.press("enter")
        await until(lambda: "/nowhere/talk.md: No such file" in on.text("#export-note"))
        await on.press("escape")
        assert await on.result() is None


async def test_a_session_is_copied(sessions: SessionStore) -> None:
    first, *_ = talks(sessions)
    async with opened(ExportDialog(first), sessions) as on:
        await on.press("alt+c")
        assert await on.result() is None
        assert on.app.clipboard == sessions.export_markdown(first)


async def test_a_session_that_is_gone_is_told(sessions: SessionStore) -> None:
    async with opened(ExportDialog(99), sessions) as on:
        await on.press("enter")
        await until(lambda: "no session 99" in on.text("#export-note"))


@pytest.mark.parametrize(("title", "name"), [("a/b\\c:d", "a-b-c-d"), ("..", ""), ("中文 x.", "中文-x"), ("", "")])
def test_titles_as_file_names(title: str, name: str) -> None:
    assert file_name(title) == name


# ---- the strip of figures


class StripApp(App[None]):
    def compose(self) -> ComposeResult:
        yield CompareStrip()


@pytest.mark.parametrize("size", [*SIZES, (50, 12)])
async def test_the_strip_shows_itself_for_two_answers(size: tuple[int, int]) -> None:
    app = StripApp()
    async with app.run_test(size=size) as pilot:
        strip = app.query_one(CompareStrip)
        assert not strip.display
        strip.show(answers()[:1])
        assert not strip.display
        strip.show(answers())
        await until(lambda: strip.size.height)
        text = strip.render().plain  # type: ignore[union-attr]
        assert "61 t/s" in text and "86 t/s" in text and "soonest done" in text
        assert all(cell_len(line) <= strip.content_size.width for line in text.splitlines())
        strip.show(answers(), voted=0)
        await until(lambda: "voted best" in strip.render().plain)  # type: ignore[union-attr]
        await pilot.resize_terminal(size[0] - 10, size[1])
        await until(lambda: strip.outer_size.width == size[0] - 10)
        lines = strip.render().plain.splitlines()  # type: ignore[union-attr]
        assert all(cell_len(line) <= strip.content_size.width for line in lines)
        strip.show([])
        await until(lambda: not strip.display)
