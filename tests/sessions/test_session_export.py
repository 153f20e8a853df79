from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from xin.errors import BadRequest
from xin.sessions.records import PaneRecord
from xin.sessions.store import SessionStore

ODD = [
    "CRLF\r\nlone \r end\r",
    "CJK 中文，。 RTL שלום",
    "NUL \0 ESC \x1b[31m DEL \x7f BEL \x07",
    "👩‍👩‍👧 🙂 e\u0301 \u200b \ufeff",
    "```py\nprint('`')\n```\n\n~~~\n```\n~~~\n",
    "```never closed\ncode",
    "| a | b |\n|---|---|\n| 1 | 2 |\n\n- x\n  - y\n",
    "</pre><script>alert(1)</script> & &amp; [red]",
    "\n\n leading and trailing \n\n",
    "TITLE BODY",
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SessionStore]:
    with SessionStore(tmp_path / "sessions.db") as opened:
        yield opened


def made(store: SessionStore) -> int:
    session = store.create("odd texts", [PaneRecord(1, "b", "desk", ODD[0], {"seed": 7}), PaneRecord(0, "a")])
    for pane, model in ((0, "a"), (1, "b")):
        parent = None
        for turn, text in enumerate(ODD, 1):
            parent = store.add_message(session, pane, parent, "user", text, turn=turn, images=["data:,x"])
            store.add_message(session, pane, parent, "assistant", f"left out {pane}", model=model, turn=turn)
            parent = store.add_message(session, pane, parent, "assistant", model=model, state="streaming", turn=turn)
            store.append(parent, f"{model} says {text}", text)
            store.finish(parent, "done", ttft_ms=5.0, tokens_per_second=9.5, completion_tokens=4)
    store.vote(session, 1, "a", [{"model": "a"}, {"model": "b"}], blind=True)
    return session


def test_json_there_and_back_is_the_same_byte_for_byte(store: SessionStore, tmp_path: Path) -> None:
    session = made(store)
    text = store.export_json(session)
    with SessionStore(tmp_path / "other.db") as other:
        again = other.import_json(text.encode())
        assert other.export_json(again) == text
        before, after = store.load(session), other.load(again)
        assert other.sessions("中文")[0].id == again
    assert [one.text for one in after.messages] == [one.text for one in before.messages]
    assert [one.reasoning for one in after.messages] == [one.reasoning for one in before.messages]
    assert after.panes == before.panes
    assert after.votes == before.votes
    assert (after.title, after.created_at, after.updated_at) == (before.title, before.created_at, before.updated_at)
    assert json.loads(text)["messages"][0]["text"] == ODD[0]


def test_json_imported_next_to_its_original_is_another_session(store: SessionStore) -> None:
    session = made(store)
    again = store.import_json(store.export_json(session))
    assert again != session
    assert not {one.id for one in store.load(session).messages} & {one.id for one in store.load(again).messages}
    parents = {one.parent for one in store.load(again).messages} - {None}
    assert parents <= {one.id for one in store.load(again).messages}


def test_markdown_has_each_shown_text_exactly(store: SessionStore) -> None:
    text = store.export_markdown(made(store))
    for odd in ODD:
        assert f"\n{odd}\n" in text
        assert f"b says {odd}\n" in text
    assert "left out" not in text
    assert text.count("### You") == len(ODD), "a question that all panes got stands once"
    assert text.index("### b") < text.index("### a"), "answers in the order of the panes"
    assert "\n```never closed\ncode\n```\n" in text, "an open fence is ended"
    assert "first token 5 ms · 9.5 tokens/s · 4 tokens" in text


def test_html_is_one_page_and_runs_nothing(store: SessionStore) -> None:
    page = store.export_html(made(store))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "CRLF&#13;\nlone &#13;" in page
    assert "http" not in page
    assert "\0" not in page
    assert "TITLE BODY" in page


def test_an_empty_session_can_be_exported(store: SessionStore) -> None:
    session = store.create("", [])
    assert store.export_markdown(session).startswith("# session\n")
    assert "<h1>session</h1>" in store.export_html(session)
    assert store.load(store.import_json(store.export_json(session))).messages == []


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "not an exported session"),
        ("{", "not an exported session"),
        ("[]", "not an exported session"),
        ("{}", '"format"'),
        (b"\xff\xfe", "not an exported session"),
        ('{"format": "xin-session", "version": 9}', "version 9; this xin knows 1"),
        ('{"format": "xin-session", "version": 1, "messages": [{"role": "user"}]}', "id"),
        ('{"format": "xin-session", "version": 1, "messages": 3}', r"messages"),
        ('{"format": "xin-session", "version": 1, "active": {"x": 1}}', "x"),
        (
            '{"format": "xin-session", "version": 1, "messages": [{"id": 2, "role": "user", "parent": 1}]}',
            "message 2 comes before its parent 1",
        ),
        (
            '{"format":"xin-session","version":1,"messages":[{"id":2,"role":"user"},{"id":2,"role":"user"}]}',
            "message 2 is there twice",
        ),
    ],
)
def test_what_is_not_an_export_is_refused(store: SessionStore, text: str | bytes, cause: str) -> None:
    with pytest.raises(BadRequest, match=cause):
        store.import_json(text)
    assert store.sessions() == []


def test_an_export_of_a_running_answer_is_imported_as_stopped(store: SessionStore) -> None:
    session = store.create("t")
    answer = store.add_message(session, 0, None, "assistant", state="streaming")
    store.append(answer, "so far")
    again = store.import_json(store.export_json(session))
    (message,) = store.load(again).messages
    assert (message.text, message.state) == ("so far", "stopped")
