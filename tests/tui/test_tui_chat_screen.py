"""The Chat against a real node with echo models: what is sent, shown, copied, stopped, and what survives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Static
from waiting import until

from tests.live_node import LiveNode
from xin.sessions.store import SessionStore
from xin.tui.app import Workbench
from xin.tui.dialogs.quit import Quit
from xin.tui.screens.chat import ChatScreen
from xin.tui.store import Target

TEXT = (
    "# Title\r\n\r\nA **bold** *claim* with `code` and 中文，表情 👩‍👩‍👧 ❤️.\n\n"
    "```python\r\nprint('x')\r\n\r\n# end\r\n```\n\n"
    "| name | 列 |\n|:-----|---:|\n| a | 乙 |\n\n- one\n  - two\n\n    three\n- four\n\n> quote\n>\n> > deeper\n\n"
    "1. first\n   ~~~sh\n   echo $HOME\n   ~~~\n2. second\n\nlast\tline"
)
HOSTILE = (
    "[red]markup[/red] [/] [@click=app.quit]x[/] \x1b[31mred\x1b]0;title\x07 \x1b[2J nul\x00 bell\x07 bs\x08 c1\x9b3m"
    "\n\nrtl \u202egnirts\u202c שלום عربي \u2066iso\u2069 family 👩‍👩‍👧‍👦 flag 🏳️‍🌈 tone 👍🏽 keycap 1️⃣ zalgo Z͑ͫ̓\n\n"
    "```\x1b[0m\n\x1b[41mcode\x00 👩‍👩‍👧\n```\n\n| \x1b[1m | 👨‍👩‍👦 |\n|--|--|\n| \u202ex | ❤️ |\n\n"
    "- [link](javascript:\x1b[31m) ![i](\x07)\n\n<b>\x1b</b> end"
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("node")) as node:
        for uid, options in {
            "quick": {},
            "other": {"ttft_ms": 50},
            "slow": {"tokens_per_second": 20, "n_parallel": 1},
            "slow-2": {"tokens_per_second": 20},
            "brittle": {"tokens_per_second": 200, "die_after": 12},
        }.items():
            node.launch(model_uid=uid, context_length=100_000, **options)
        yield node


Chat = tuple[Workbench, ChatScreen, Pilot[None]]


@asynccontextmanager
async def chatting(url: str, *uids: str, size: tuple[int, int] = (120, 36), ascii: bool = False) -> AsyncIterator[Chat]:
    app = Workbench(url, ascii=ascii)
    async with app.run_test(size=size) as pilot:
        await until(lambda: {target.uid for target in app.store.targets()} >= set(uids))
        home = app.store.home
        assert home is not None
        app.open_chat([Target(home.id, uid) for uid in uids])
        await until(lambda: isinstance(app.screen, ChatScreen) and len(app.screen.panes) == len(uids))
        screen = app.screen
        assert isinstance(screen, ChatScreen)
        yield app, screen, pilot


async def ask(chat: Chat, text: str, *, wait: bool = True) -> None:
    screen = chat[1]
    asked = [len(talk.conversation) for talk in screen.talks]
    screen.send(text)
    await until(lambda: [len(talk.conversation) for talk in screen.talks] != asked)
    if wait:
        await idle(chat)


async def idle(chat: Chat) -> None:
    await until(lambda: not any(talk.streaming for talk in chat[1].talks))


def texts(screen: ChatScreen, pane: int = 0) -> list[str]:
    return [message.text for message in screen.talks[pane].conversation.path()]


def lines(app: Workbench) -> list[str]:
    """The screen as it is drawn."""
    return [strip.text for strip in app.screen._compositor.render_strips()]


def shown(app: Workbench) -> str:
    return "\n".join(lines(app))


async def test_a_prompt_goes_to_all_panes_or_to_one(node: LiveNode):
    async with chatting(node.url, "quick", "other") as chat:
        app, screen, pilot = chat
        await pilot.press(*"hello", "enter")
        await until(lambda: all(len(talk.conversation) == 2 for talk in screen.talks))
        await idle(chat)
        assert texts(screen, 0) == texts(screen, 1) == ["hello", "hello"]
        assert screen.prompt.text == ""
        await pilot.press("alt+a", "alt+right", *"two", "enter")
        await until(lambda: len(screen.talks[1].conversation) == 4)
        await idle(chat)
        assert len(screen.talks[0].conversation) == 2
        assert "2 other" in shown(app) and "turn 2" in shown(app)
        figures = screen.panes[1].border_subtitle or ""
        assert "ms" in figures and "tok" in figures and "ctx" in figures and "≈" not in figures


async def test_what_is_copied_is_what_the_server_sent(node: LiveNode):
    async with chatting(node.url, "quick") as chat:
        app, screen, pilot = chat
        await ask(chat, TEXT)
        answer = screen.talks[0].answer
        assert answer is not None and answer.text == TEXT
        await pilot.press("alt+up", "Y")
        await until(lambda: app.clipboard == TEXT)
        blocks = ["last\tline", "1. first\n   ~~~sh\n   echo $HOME\n   ~~~\n2. second", "> quote\n>\n> > deeper"]
        blocks += ["- one\n  - two\n\n    three\n- four", "| name | 列 |\n|:-----|---:|\n| a | 乙 |"]
        blocks += ["print('x')\r\n\r\n# end", "A **bold** *claim* with `code` and 中文，表情 👩‍👩‍👧 ❤️.", "# Title"]
        for block in blocks:
            await pilot.press("y")
            await until(lambda block=block: app.clipboard == block)  # type: ignore[misc]
            await pilot.press("alt+up")
        await pilot.press("y")  # the question
        await until(lambda: app.clipboard == TEXT)
        await pilot.press(*["alt+down"] * 9)
        assert app.focused is screen.prompt
        await pilot.press("alt+y")  # without a cursor: the last code
        await until(lambda: app.clipboard == "echo $HOME")


@pytest.mark.parametrize("size", [(80, 24), (160, 45)])
async def test_hostile_text_stays_inside_its_pane(node: LiveNode, size: tuple[int, int]):
    async with chatting(node.url, "quick", "other", size=size) as chat:
        app, screen, pilot = chat
        await ask(chat, HOSTILE)
        assert [talk.answer.text for talk in screen.talks if talk.answer] == [HOSTILE, HOSTILE]
        await pilot.pause()
        left, right = screen.panes[0].region, screen.panes[1].region
        for strip in app.screen._compositor.render_strips()[left.y + 1 : left.bottom - 1]:
            assert strip.cell_length == size[0]
            assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in strip.text)
            for at in (left.x, left.right - 1, right.x, right.right - 1):
                assert strip.crop(at, at + 1).text in "┃│", strip.text
        assert "[red]markup[/red]" in shown(app) or screen.panes[0].transcript.max_scroll_y > 0


async def test_esc_stops_this_pane_frees_its_slot_and_twice_stops_all(node: LiveNode):
    async with chatting(node.url, "slow", "slow-2") as chat:
        app, screen, pilot = chat
        words = " ".join(f"w{n}" for n in range(400))
        await ask(chat, words, wait=False)
        await until(lambda: all("w2" in (talk.answer.text if talk.answer else "") for talk in screen.talks))
        await pilot.press("escape")
        began = time.monotonic()
        stopped = screen.talks[0].answer
        assert stopped is not None and stopped.state == "stopped" and words.startswith(stopped.text)
        reply = await asyncio.to_thread(
            node.http.post,
            "/v1/chat/completions",
            json={"model": "slow", "messages": [{"role": "user", "content": "x"}]},
        )
        assert reply.status_code == 200 and time.monotonic() - began < 8  # it has one slot, for 20 s
        assert screen.talks[1].streaming
        await pilot.press("escape", "escape")
        await until(lambda: not screen.talks[1].streaming)
        assert "■ stopped" in shown(app)
        kept = stopped.text
        await ask(chat, "next")
        assert stopped.text == kept and texts(screen)[-1] == "next"
        record = app.sessions.load(screen.session.id or 0)
        states = {(one.pane, one.turn): (one.state, one.text) for one in record.messages if one.role == "assistant"}
        assert states[0, 1] == ("stopped", kept) and states[0, 2] == ("done", "next")


async def test_answers_and_questions_branch(node: LiveNode):
    async with chatting(node.url, "quick") as chat:
        app, screen, pilot = chat
        await ask(chat, "first")
        await ask(chat, "second")
        await pilot.press("ctrl+g")
        await until(lambda: len(screen.talks[0].conversation) == 5)
        await idle(chat)
        await until(lambda: "‹ 2/2 ›" in shown(app))
        await pilot.press("alt+v")
        await until(lambda: "‹ 1/2 ›" in shown(app))
        await pilot.press("alt+up", "alt+up", "alt+up", "alt+up", "e")
        assert screen.prompt.text == "first" and app.focused is screen.prompt
        await pilot.press(*" anew", "enter")
        await until(lambda: texts(screen) == ["first anew", "first anew"])
        await idle(chat)
        await pilot.press("alt+up", "alt+up", "left")
        await until(lambda: texts(screen) == ["first", "first", "second", "second"])


async def test_a_model_that_dies_leaves_its_words_and_a_key_while_others_go_on(node: LiveNode):
    async with chatting(node.url, "brittle", "slow-2", size=(160, 45)) as chat:
        app, screen, pilot = chat
        words = " ".join(f"w{n}" for n in range(40))
        await ask(chat, words, wait=False)
        await until(lambda: not screen.talks[0].streaming)
        failed = screen.talks[0].answer
        assert failed is not None and failed.state == "failed" and words.startswith(failed.text) and failed.text
        await until(lambda: "failed after" in shown(app) and "ctrl+g retry" in shown(app))
        assert screen.talks[1].streaming
        await idle(chat)
        assert texts(screen, 1)[-1] == words
        await pilot.press("alt+up")
        await until(lambda: "r retry   m other model   L log" in shown(app))
        await until(lambda: screen.panes[0].instance is not None and screen.panes[0].instance.state == "ready", 30)
        await pilot.press("r")
        await until(lambda: len(screen.talks[0].conversation) == 3)
        await idle(chat)


async def test_a_node_that_dies_is_told_in_the_pane(tmp_path: Path):
    with LiveNode(tmp_path / "dying") as dying:
        dying.launch(model_uid="m", tokens_per_second=20)
        async with chatting(dying.url, "m") as chat:
            app, screen, pilot = chat
            await ask(chat, "one two three four five six seven eight nine ten " * 5, wait=False)
            await until(lambda: bool(screen.talks[0].answer and "three" in screen.talks[0].answer.text))
            dying.process.kill()
            await until(lambda: not screen.talks[0].streaming, 5)
            answer = screen.talks[0].answer
            assert answer is not None and answer.state == "failed" and answer.text.startswith("one two three")
            await until(lambda: "✗ failed after" in shown(app))
            await pilot.press("ctrl+g")
            await until(lambda: len(screen.talks[0].conversation) == 3)
            await idle(chat)
            assert screen.talks[0].answer is not None and screen.talks[0].answer.state == "failed"


async def test_a_paste_of_thousands_of_lines_is_a_chip(node: LiveNode):
    async with chatting(node.url, "quick") as chat:
        _, screen, pilot = chat
        pasted = "\n".join(f"line {n}" for n in range(5000))
        await pilot.press(*"see ")
        screen.prompt.post_message(events.Paste(pasted))
        await until(lambda: screen.prompt.text == "see [pasted 5,000 lines #1]")
        await pilot.press("alt+e")
        assert screen.prompt.text == f"see {pasted}"
        screen.prompt.clear_all()
        screen.prompt.post_message(events.Paste(pasted))
        await until(lambda: "pasted" in screen.prompt.text)
        await pilot.press("backspace")
        assert screen.prompt.text == ""
        screen.prompt.post_message(events.Paste(pasted))
        await until(lambda: "pasted" in screen.prompt.text)
        await pilot.press("enter")
        await until(lambda: bool(screen.talks[0].answer))
        await idle(chat)
        assert texts(screen) == [pasted, pasted]


async def test_drafts_sessions_and_history_survive_the_end(node: LiveNode):
    async with chatting(node.url, "quick", "other") as chat:
        _, screen, pilot = chat
        await ask(chat, "what was said")
        await pilot.press(*"half a thought")
        session = screen.session.id
    async with chatting(node.url, "quick") as chat:
        _, screen, pilot = chat
        await until(lambda: screen.prompt.text == "half a thought")
        screen.prompt.clear_all()
        await pilot.press("up")
        await until(lambda: screen.prompt.text == "what was said")
        await pilot.press("down")
        await pilot.press(*f"/load {session}", "enter")
        await until(lambda: len(screen.panes) == 2)
        assert texts(screen, 0) == texts(screen, 1) == ["what was said", "what was said"]
        await ask(chat, "and on")
        assert texts(screen, 1)[-1] == "and on" and screen.session.id == session
    with SessionStore() as store:
        assert [one.turns for one in store.sessions()] == [2]


async def test_what_is_typed_fast_is_sent_in_order_and_whole(node: LiveNode):
    async with chatting(node.url, "quick") as chat:
        app, screen, _ = chat
        for key in [*"first line", "ctrl+j", *"second", "enter", *"rest"]:
            app.post_message(events.Key("space" if key == " " else key, key if len(key) == 1 else None))
        await until(lambda: screen.prompt.text == "rest")
        await until(lambda: texts(screen)[:1] == ["first line\nsecond"])


async def test_the_editor_gets_the_prompt_and_gives_it_back(node: LiveNode, monkeypatch: pytest.MonkeyPatch):
    async with chatting(node.url, "quick") as chat:
        app, screen, pilot = chat
        monkeypatch.setattr(app._driver.__class__, "can_suspend", True)
        monkeypatch.setenv("EDITOR", "sed -i s/a/b/")
        screen.prompt.put("aha")
        await pilot.press("f4")
        await until(lambda: screen.prompt.text == "bha")
        said: list[str] = []
        app.say = lambda text, **_: said.append(text)  # type: ignore[method-assign]
        monkeypatch.setenv("EDITOR", "/nonexistent/editor")
        await pilot.press("f4")
        await until(lambda: said and "cannot be run" in said[0])
        assert screen.prompt.text == "bha"


async def test_panes_too_narrow_for_the_screen_are_pages(node: LiveNode):
    async with chatting(node.url, "quick", "other", "slow", size=(80, 24)) as chat:
        app, screen, pilot = chat
        await until(lambda: [pane.display for pane in screen.panes] == [True, True, False])
        await until(lambda: "panes 1-2 of 3" in shown(app))
        await pilot.press("alt+right", "alt+right")
        assert [pane.display for pane in screen.panes] == [False, True, True]
        await pilot.press("alt+z")
        assert [pane.display for pane in screen.panes] == [False, False, True]
        await pilot.press("escape")
        assert sum(pane.display for pane in screen.panes) == 2
        await pilot.press("alt+w")
        assert len(screen.panes) == 2 and all(pane.display for pane in screen.panes)


async def test_every_dialog_closes_by_esc_and_leaving_is_asked_over_any(node: LiveNode):
    async with chatting(node.url, "quick", "other") as chat:
        app, screen, pilot = chat
        await ask(chat, "who is best")
        for key in ("f1", "ctrl+p", "f2", "ctrl+t", "alt+s", "alt+d", "f8", "f5"):
            await pilot.press(key)
            await until(lambda: app.screen is not screen, what=key)
            dialog = app.screen
            await pilot.press("ctrl+q")
            await until(lambda: isinstance(app.screen, Quit), what=key)
            await pilot.press("escape")
            await until(lambda dialog=dialog: app.screen is dialog, what=key)
            await pilot.press("escape")
            await until(lambda: app.screen is screen, what=key)
        await pilot.press("f5")
        await until(lambda: app.screen is not screen)
        await pilot.press("2", "escape")
        await until(lambda: app.screen is screen)
        app.sessions.flush()
        assert [one.winner for one in app.sessions.votes(screen.session.id or 0)] == ["other"]
        await pilot.press("f5")
        await until(lambda: app.screen is not screen)
        await pilot.press("ctrl+q", "ctrl+q")
        await until(lambda: app._exit)


async def test_help_begins_with_the_keys_of_the_chat(node: LiveNode):
    async with chatting(node.url, "quick") as chat:
        app, screen, pilot = chat
        assert app.focused is screen.prompt
        await pilot.press("f1")
        await until(lambda: app.screen is not screen)
        told = str(app.screen.query_one("#help-scroll Static", Static).visual)
        places = [told.index(words) for words in ("Send the prompt", "Add, remove", "Everywhere", "Editing text")]
        assert places == sorted(places)
        assert told.index("Cursor up") > places[-1]


async def test_commands_in_the_prompt(node: LiveNode):
    async with chatting(node.url, "quick", "other") as chat:
        app, screen, pilot = chat
        said: list[str] = []
        app.say = lambda text, **_: said.append(text)  # type: ignore[method-assign]

        async def type(text: str) -> None:
            screen.prompt.put(text)
            await pilot.press("enter")
            await pilot.pause()

        await type("/set temperature 0.5")
        await type("/system be brief")
        assert [(talk.system, talk.sampling) for talk in screen.talks] == [("be brief", {"temperature": 0.5})] * 2
        assert "T 0.5" in shown(app)
        await type("/nonsense")
        assert "no command /nonsense" in said[-1]
        screen.prompt.clear_all()
        await type("/image /etc/hostname")
        assert "quick, other take no images" in said[-1]
        await type("/model slow-2")
        assert screen.talks[0].model == "slow-2"
        screen.prompt.put("/sys")
        await pilot.pause()
        await until(lambda: "tab /system" in shown(app))
        await pilot.press("tab")
        assert screen.prompt.text == "/system "
        await type("//not a command")
        await until(lambda: bool(screen.talks[1].answer))
        await idle(chat)
        assert texts(screen, 1) == ["/not a command"] * 2


async def test_a_long_talk_shows_its_end_and_fetches_the_rest(node: LiveNode):
    async with chatting(node.url, "quick") as chat:
        app, screen, pilot = chat
        talk = screen.talks[0]
        at = None
        talk.log = None
        for n in range(100):
            asked = talk.conversation.add("user", f"q{n}", parent=at, turn=n)
            at = talk.conversation.add("assistant", f"answer {n}\n\n" * 20, parent=asked, turn=n)
        screen.panes[0].asked()
        await until(lambda: "answer 99" in shown(app))
        await pilot.press("alt+up", "home")
        await until(lambda: "earlier messages" in shown(app) or "q0" in shown(app))


async def test_resizing_while_it_streams_breaks_nothing(node: LiveNode):
    async with chatting(node.url, "slow", "slow-2", "quick") as chat:
        app, screen, pilot = chat
        await ask(chat, TEXT * 8, wait=False)
        for size in [(80, 24), (160, 45), (60, 16), (40, 10), (200, 50), (38, 12), (120, 36)] * 2:
            await pilot.resize_terminal(*size)
            await pilot.pause(0.05)
        assert all(strip.cell_length == 120 for strip in app.screen._compositor.render_strips())
        assert screen.talks[0].streaming
        await pilot.press("escape", "escape", "escape")
        await idle(chat)


async def test_a_blind_vote_hides_names_until_it_is_cast(node: LiveNode):
    async with chatting(node.url, "quick", "other") as chat:
        app, screen, pilot = chat
        await ask(chat, "who is best")
        await pilot.press("f9")
        await until(lambda: {pane.title for pane in screen.panes} == {"A", "B"})
        names = [pane.talk.model for pane in screen.panes]
        assert not any(name in shown(app) for name in ("1 quick", "2 other", "@"))
        await pilot.press("f5")
        await until(lambda: app.screen is not screen)
        await pilot.press("1", "enter")
        await until(lambda: app.screen is screen)
        await until(lambda: [pane.title for pane in screen.panes] == ["quick", "other"])
        app.sessions.flush()
        assert [one.winner for one in app.sessions.votes(screen.session.id or 0)] == [names[0]]


async def test_nothing_but_ascii_is_drawn_where_that_is_wanted(node: LiveNode):
    async with chatting(node.url, "quick", "slow", ascii=True) as chat:
        app, screen, pilot = chat
        await ask(chat, "# Title\n\n> - one\n\n```sh\nls\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |", wait=False)
        await until(lambda: not screen.talks[0].streaming)
        await pilot.press("escape", "escape", "ctrl+g", "alt+up")
        await idle(chat)
        await until(lambda: not app.screen._compositor._dirty_regions)
        assert [line for line in lines(app) if not line.isascii()] == []
