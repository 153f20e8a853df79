"""Pastes as a terminal sends them: whole, quick, and without anything that would act."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.events import Paste
from waiting import until

from tests.tui.test_tui_terminal import Tui
from xin.tui.app import Workbench
from xin.tui.paste_parser import BEGIN, END, PasteParser
from xin.tui.settings import TuiSettings
from xin.tui.text import plain
from xin.tui.widgets.prompt import Prompt

TEXT = "one \x1b[31mred\x1b[0m\r\ntwo\x1b]0;title\x07 \x1b]open\nthree\x9b3m\x00 \x1b中文\x1b"
PLAIN = "one red\ntwo \nthree3m 中文"


def said(chunks: list[str]) -> list[str]:
    """What the parser makes of them: keys by their names, pastes in brackets."""
    parser = PasteParser()
    events: list[Any] = [event for chunk in chunks for event in parser.feed(chunk)]
    return [f"<{event.text}>" if isinstance(event, Paste) else event.key for event in events]


def test_a_paste_is_one_event_however_its_bytes_come():
    stream = f"a{BEGIN}{TEXT}{END}b\x1b[A{BEGIN}{END}c"
    wanted = ["a", f"<{PLAIN}>", "b", "up", "<>", "c"]
    assert said([stream]) == said(list(stream)) == wanted
    for at in range(1, len(stream)):
        assert said([stream[:at], stream[at:]]) == wanted, at
    assert said(["\x1b", "[A", "\x1b[2", "0~"]) == ["up", "f9"]


def test_an_escape_key_before_a_split_paste_is_still_the_escape_key(monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr("textual._parser.get_time", lambda: now[0])
    parser = PasteParser()
    assert list(parser.feed("\x1b")) == []
    now[0] += 1.0
    [key] = parser.tick()
    assert key.key == "escape"  # type: ignore[attr-defined]
    assert [event.text for event in parser.feed(f"{BEGIN}x{END}")] == ["x"]  # type: ignore[attr-defined]


def test_plain_text_keeps_lines_and_loses_what_acts():
    assert plain(TEXT) == PLAIN
    assert plain("a\tb\n\nשלום 👩‍👩‍👧\x85") == "a\tb\n\nשלום 👩‍👩‍👧\x85"
    assert plain("\x1b]8;;" + "x\n" * 3) == "\nx\nx\n"


async def test_no_escape_byte_stands_in_the_prompt_whatever_is_put_there():
    app = Workbench(None, connect=False, settings=TuiSettings(start="chat"))
    async with app.run_test():
        prompt = app.screen.query_one(Prompt)
        prompt.put(TEXT)
        assert prompt.text == PLAIN
        prompt.clear_all()
        app.post_message(Paste(TEXT))
        await until(lambda: prompt.text == PLAIN)
        assert not any("\x1b" in strip.text for strip in app.screen._compositor.render_strips())
        prompt.clear_all()
        app.post_message(Paste("\x1b[1mline\x1b[0m\r" * 5000))
        await until(lambda: prompt.text == "[pasted 5,001 lines #1]")
        assert prompt.value == "line\n" * 5000


def test_a_large_paste_with_escapes_folds_on_a_real_terminal(xin_home: Path):
    config = xin_home / "config"
    config.mkdir(parents=True)
    (config / "tui.toml").write_text('start = "chat"\n')
    with Tui() as tui:
        tui.wait_for("No model is ready")
        tui.type(BEGIN)
        for _ in range(100):
            tui.type("\x1b[31mred line\x1b[0m\x1b\r" * 50)
            tui.read(0)
        tui.type(END)
        tui.wait_for("[pasted 5,001 lines #1]")
        tui.type("\x11")
        assert tui.ended() == 0
