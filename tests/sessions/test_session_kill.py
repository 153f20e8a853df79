from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from writing_process import piece

from xin.sessions.store import SessionStore

FLUSH_SECONDS = 0.5


@contextlib.contextmanager
def writing(path: Path) -> Iterator[subprocess.Popen[str]]:
    script = Path(__file__).with_name("writing_process.py")
    process = subprocess.Popen([sys.executable, script, path], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_nothing_older_than_the_flush_is_lost_by_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with writing(path) as process:
        assert process.stdout is not None
        told: list[tuple[float, int]] = []
        begun = time.monotonic()
        for line in process.stdout:
            told.append((time.monotonic(), int(line.split()[1])))
            if told[-1][0] - begun > 2:
                break
        killed_at = time.monotonic()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    sure = max(count for at, count in told if at < killed_at - FLUSH_SECONDS)
    assert sure > 20
    with SessionStore(path) as store:
        (summary,) = store.sessions()
        record = store.load(summary.id)
        assert [(one.role, one.state) for one in record.messages] == [("user", "done"), ("assistant", "stopped")] * 2
        assert [pane.model_uid for pane in record.panes] == ["one", "two"]
        for answer in record.messages[1::2]:
            count = answer.text.count("\r\n")
            assert count >= sure
            assert answer.text == "".join(piece(number) for number in range(count))
            assert answer.reasoning == "".join(f"thought {number}\n" for number in range(count))
        assert [one.id for one in store.sessions("<7> 中文")] == [summary.id], "a recovered answer can be searched"


def test_an_answer_that_another_process_still_writes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with writing(path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with SessionStore(path) as store:
            states = lambda: {one.state for one in store.load(1).messages if one.role == "assistant"}  # noqa: E731
            deadline = time.monotonic() + 30
            while states() != {"streaming"} and time.monotonic() < deadline:  # it writes a moment after it says so
                time.sleep(0.02)
            assert states() == {"streaming"}
            mine = store.create("mine")
            store.add_message(mine, 0, None, "user", "both may write")
            store.flush()
            process.kill()
            process.wait()
            store.recover()
            assert states() == {"stopped"}


def test_close_ends_what_this_process_streams(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    store = SessionStore(path)
    session = store.create("")
    answer = store.add_message(session, 0, None, "assistant", state="streaming")
    store.append(answer, "half an ans")
    store.close()
    store.close()
    with SessionStore(path) as again:
        (message,) = again.load(session).messages
        assert (message.text, message.state) == ("half an ans", "stopped")
