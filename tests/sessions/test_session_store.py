from __future__ import annotations

import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from xin.errors import NotFound, SessionFileError
from xin.sessions import schema
from xin.sessions.records import MessageRecord, PaneRecord, Standing
from xin.sessions.store import SessionStore

ODD = "CRLF\r\nlone \r CJK 中文 NUL \0 emoji 👩‍👩‍👧 RTL שלום \x1b[31m [red]\n```py\nx = 1\n```\n\n  trailing \n\n"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SessionStore]:
    with SessionStore(tmp_path / "data" / "sessions.db") as opened:
        yield opened


def turn(store: SessionStore, session: int, question: str, *answers: str, number: int = 1) -> list[int]:
    """A question broadcast to a pane for each answer; ids of the answers."""
    ids = []
    for pane, answer in enumerate(answers):
        asked = store.add_message(session, pane, None, "user", question, turn=number)
        id = store.add_message(session, pane, asked, "assistant", model=f"m{pane}", state="streaming", turn=number)
        store.append(id, answer)
        store.finish(id, "done", ttft_ms=12.5, tokens_per_second=60.0, completion_tokens=3, finish_reason="stop")
        ids.append(id)
    return ids


def test_a_turn_comes_back_exactly(store: SessionStore) -> None:
    panes = [PaneRecord(1, "b", "desk", ODD, {"temperature": 0.5, "stop": ["\0"]}), PaneRecord(0, "a")]
    session = store.create("", panes)
    question = store.add_message(session, 0, None, "user", ODD, turn=1, images=["data:image/png;base64,AA=="])
    answer = store.add_message(session, 0, question, "assistant", model="a", state="streaming", turn=1)
    for char in ODD:
        store.append(answer, char, char)
    store.finish(answer, "failed", ttft_ms=1.5, thinking_ms=1.0, error="gone", hint="retry", prompt_tokens=9)
    record = store.load(session)
    assert record.panes == panes
    asked, said = record.messages
    assert (asked.text, asked.images, asked.id) == (ODD, ["data:image/png;base64,AA=="], question)
    assert (said.text, said.reasoning, said.parent) == (ODD, ODD, question)
    assert (said.state, said.error, said.hint) == ("failed", "gone", "retry")
    assert (said.ttft_ms, said.thinking_ms, said.prompt_tokens, said.finish_reason) == (1.5, 1.0, 9, None)
    assert record.title.startswith("CRLF lone CJK 中文 NUL emoji"), "the first question is the title"
    assert record.title.isprintable()


def test_what_comes_after_the_end_is_ignored(store: SessionStore) -> None:
    session = store.create("t")
    (answer,) = turn(store, session, "q", "whole")
    store.append(answer, " stale")
    assert store.load(session).messages[-1].text == "whole"


def test_a_streaming_answer_reaches_the_file_within_half_a_second(store: SessionStore) -> None:
    session = store.create("t")
    answer = store.add_message(session, 0, None, "assistant", state="streaming")
    store.append(answer, "so far")
    deadline = time.monotonic() + 0.5
    text = ""
    while not text and time.monotonic() < deadline:
        with sqlite3.connect(store.path) as other:
            text = other.execute("SELECT coalesce(max(text), '') FROM messages").fetchone()[0]
        other.close()
        time.sleep(0.02)
    assert text == "so far"


def test_branches_and_the_leaf_that_is_shown(store: SessionStore) -> None:
    session = store.create("t", [PaneRecord(0, "a")])
    question = store.add_message(session, 0, None, "user", "q", turn=1)
    first = store.add_message(session, 0, question, "assistant", "one", turn=1)
    second = store.add_message(session, 0, question, "assistant", "two", turn=1)
    assert store.load(session).active == {0: second}
    store.set_active(session, 0, first)
    record = store.load(session)
    assert record.active == {0: first}
    assert [one.parent for one in record.messages] == [None, question, question]


def test_a_session_can_be_branched_up_to_a_turn(store: SessionStore) -> None:
    session = store.create("talk", [PaneRecord(0, "m0")])
    turn(store, session, "first", "one")
    turn(store, session, "second", "two", number=2)
    whole, part = store.branch(session), store.branch(session, turn=1, title="other")
    assert [one.text for one in store.load(whole).messages] == ["first", "one", "second", "two"]
    record = store.load(part)
    assert ([one.text for one in record.messages], record.title) == (["first", "one"], "other")
    assert record.messages[1].parent == record.messages[0].id
    assert record.active == {0: record.messages[1].id}
    assert len(store.load(session).messages) == 4


def test_lists_are_newest_first_with_figures(store: SessionStore) -> None:
    old, new = store.create("old", [PaneRecord(0, "m9")]), store.create("new")
    turn(store, new, "q", "a", "b")
    turn(store, new, "q2", "a", "b", number=2)
    listed = store.sessions()
    assert [(one.id, one.turns, one.models) for one in listed] == [(new, 2, ["m0", "m1"]), (old, 0, ["m9"])]
    turn(store, old, "again", "later")
    assert [one.id for one in store.sessions(limit=1)] == [old]


def test_rename_and_delete(store: SessionStore) -> None:
    session, other = store.create("one"), store.create("two")
    turn(store, session, "needle", "haystack")
    store.set_draft(session, "half")
    store.rename(session, "quarks")
    assert [one.id for one in store.sessions("quark")] == [session]
    assert store.sessions("one") == []
    store.delete(session)
    assert [one.id for one in store.sessions()] == [other]
    assert store.sessions("needle") == store.sessions("quark") == []
    assert store.draft(session) == ""
    for call in (lambda: store.delete(session), lambda: store.rename(session, "x"), lambda: store.load(session)):
        with pytest.raises(NotFound, match=f"no session {session}"):
            call()
    store.add_message(session, 0, None, "user", "to nobody")
    store.flush()
    assert store.create("still works")


def test_pictures_are_kept_once_and_go_with_their_session(store: SessionStore) -> None:
    url = "data:image/png;base64," + "A" * 1000
    sessions = [store.create(name) for name in "ab"]
    for session in sessions:
        for pane in range(2):
            store.add_message(session, pane, None, "user", "look", images=[url])
    count = "SELECT count(*) FROM images"
    store.flush()
    other = sqlite3.connect(store.path)
    assert other.execute(count).fetchone() == (1,)
    store.delete(sessions[0])
    assert store.load(sessions[1]).messages[0].images == [url]
    store.delete(sessions[1])
    assert other.execute(count).fetchone() == (0,)
    other.close()


def test_votes_and_the_tally(store: SessionStore) -> None:
    session = store.create("t")
    both: list[dict[str, object]] = [{"model": "a", "ttft_ms": 3.0}, {"model": "b"}]
    store.vote(session, 1, "a", both, blind=True)
    store.vote(session, 2, "tie", both)
    store.vote(session, 3, "none", [*both, {"model": "c"}])
    assert store.tally() == [Standing("a", 1, 0, 2), Standing("c", 0, 0, 1), Standing("b", 0, 1, 2)]
    store.vote(session, 1, "b", both)
    assert store.tally()[0] == Standing("b", 1, 0, 2), "a second vote on a turn replaces the first"
    assert [one.winner for one in store.votes(session)] == ["b", "tie", "none"]
    assert store.load(session).votes[0].candidates == both
    store.delete(session)
    assert len(store.tally()) == 3, "the tally outlives its sessions"


def test_drafts(store: SessionStore) -> None:
    session = store.create("t")
    store.set_draft(0, "not begun\r\n")
    store.set_draft(session, ODD)
    assert (store.draft(0), store.draft(session), store.draft(99)) == ("not begun\r\n", ODD, "")
    store.set_draft(0, "")
    assert store.draft(0) == ""


def test_questions_asked_before_are_newest_first_and_once(store: SessionStore) -> None:
    session = store.create("t")
    for question in ("one", "two", "one", "three"):
        store.add_message(session, 0, None, "user", question)
    assert store.questions() == ["three", "one", "two"]
    assert store.questions(limit=1) == ["three"]


def test_half_characters_do_not_stop_it(store: SessionStore) -> None:
    session = store.create("\ud83d half")
    answer = store.add_message(session, 0, None, "assistant", "\ud83d", state="streaming")
    store.append(answer, "\ude42!", "\udcff")
    assert store.load(session).messages[0].text == "??!"


def test_many_threads_may_write(store: SessionStore) -> None:
    session = store.create("t")

    def write(pane: int) -> None:
        answer = store.add_message(session, pane, None, "assistant", state="streaming")
        for number in range(300):
            store.append(answer, f"{number} ")
        store.finish(answer, "done")

    threads = [threading.Thread(target=write, args=(pane,)) for pane in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = "".join(f"{number} " for number in range(300))
    assert [one.text for one in store.load(session).messages] == [whole] * 4


def test_the_file_is_its_owners_alone(store: SessionStore) -> None:
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700


def test_a_temporary_store_leaves_nothing() -> None:
    with SessionStore.temporary() as store:
        assert store.create("t") == 1
        folder = store.path.parent
        assert folder.exists()
    assert not folder.exists()


def test_a_locked_file_is_waited_for_and_told(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    session = store.create("t")
    store._writer.drain()
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.add_message(session, 0, None, "user", "kept in memory")
    with pytest.raises(SessionFileError, match="locked"):
        store.flush()
    assert "locked" in store.failure
    other.execute("COMMIT")
    other.close()
    store.flush()
    assert store.failure == ""
    assert [one.text for one in store.load(session).messages] == ["kept in memory"]


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    SessionStore(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(SessionFileError) as caught:
        SessionStore(path)
    assert f"newer xin (format {schema.VERSION + 1}; this one knows {schema.VERSION})" in caught.value.message
    assert str(path) in caught.value.message
    assert "update xin" in str(caught.value.hint)
    assert path.read_bytes() == before


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(SessionFileError, match="not a database") as caught:
        SessionStore(path)
    assert "move that file away" in str(caught.value.hint)
    folder = tmp_path / "file"
    folder.touch()
    with pytest.raises(SessionFileError, match=str(folder)):
        SessionStore(folder / "sessions.db")


def test_a_damaged_file_of_its_own_is_an_error_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with SessionStore(path) as store:
        turn(store, store.create("t"), "q", "a" * 100_000)
    data = bytearray(path.read_bytes())
    data[4096 : len(data) // 2] = b"\xff" * (len(data) // 2 - 4096)
    path.write_bytes(data)
    with pytest.raises(SessionFileError):
        store = SessionStore(path)
        try:
            store.load(1)
        finally:
            store.close()


def test_ids_grow_though_the_clock_goes_back(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    session = store.create("t")
    first = store.add_message(session, 0, None, "user", "q")
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    second = store.add_message(session, 0, first, "assistant", "a")
    assert second > first
    store.flush()
    with SessionStore(store.path) as another:
        assert another.add_message(session, 0, second, "user", "q2") > second
    ids = [one.id for one in store.load(session).messages]
    assert ids == sorted(ids)
    assert all(isinstance(one, MessageRecord) for one in store.load(session).messages)
