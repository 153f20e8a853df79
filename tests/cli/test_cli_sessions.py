from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_process import XIN
from terminal import Terminal
from typer.testing import CliRunner, Result

from xin.cli.main import app
from xin.sessions.records import PaneRecord
from xin.sessions.store import SessionStore

ODD = "CRLF\r\n中文 \0 \x1b[31m 🙂\n```py\nx\n```"


@pytest.fixture
def sessions(xin_home: Path) -> dict[str, int]:
    """Two sessions in xin's own data folder, by title."""
    with SessionStore() as store:
        made = {name: store.create(name, [PaneRecord(0, "a")]) for name in ("window functions", "odd texts")}
        for title, text in (("window functions", "OVER (ORDER BY id)"), ("odd texts", ODD)):
            asked = store.add_message(made[title], 0, None, "user", "Explain.", turn=1)
            store.add_message(made[title], 0, asked, "assistant", text, model="a", turn=1)
        store.vote(made["odd texts"], 1, "a", [{"model": "a"}, {"model": "b"}])
    return made


def xin(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["sessions", *arguments], env={"COLUMNS": "80"})


def run(*arguments: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*XIN, "sessions", *arguments], capture_output=True, input=input, env=os.environ, timeout=30)


def test_listing_and_searching(sessions: dict[str, int]) -> None:
    lines = xin("list").stdout.splitlines()
    assert lines[0].split() == ["ID", "CHANGED", "TURNS", "TITLE", "MODELS"]
    assert "odd texts" in lines[1] and "window functions" in lines[2]
    assert xin().stdout.splitlines() == lines
    assert len(xin("list", "-n", "1").stdout.splitlines()) == 2
    (found,) = json.loads(xin("search", "order by", "OVER", "--json").stdout)
    assert (found["title"], found["turns"], found["models"]) == ("window functions", 1, ["a"])
    assert "ORDER BY" in found["snippet"]
    nothing = xin("search", "narwhal")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "narwhal" in nothing.stderr


def test_no_sessions_yet() -> None:
    assert xin("--json").stdout.strip() == "[]"
    assert "no sessions yet" in xin("list").stderr
    assert xin("votes", "--json").stdout.strip() == "[]"
    assert xin("show", "last").exit_code == 3


def test_show_steers_no_terminal(sessions: dict[str, int]) -> None:
    shown = xin("show", "odd").stdout
    assert "中文" in shown and "🙂" in shown
    assert "\x1b" not in shown and "\0" not in shown
    record = json.loads(xin("show", str(sessions["odd texts"]), "--json").stdout)
    assert record["messages"][1]["text"] == ODD


def test_rename_branch_delete(sessions: dict[str, int]) -> None:
    assert xin("rename", "window", "SQL", "lesson").stdout == f"{sessions['window functions']}\n"
    copy = int(xin("branch", "SQL lesson", "--turn", "1", "--title", "copy").stdout)
    assert [one["title"] for one in json.loads(xin("--json").stdout)] == ["copy", "odd texts", "SQL lesson"]
    refused = xin("delete", "copy")
    assert (refused.exit_code, "--yes" in refused.stderr) == (2, True)
    done = xin("delete", "copy", "SQL lesson", "--yes", "--json")
    assert json.loads(done.stdout) == {"deleted": [copy, sessions["window functions"]]}
    assert [one["title"] for one in json.loads(xin("--json").stdout)] == ["odd texts"]


def test_delete_asks_on_a_terminal(sessions: dict[str, int], xin_home: Path) -> None:
    with Terminal("sessions", "delete", "odd", environ=dict(os.environ)) as terminal:
        terminal.read_until("Delete session 2 'odd texts'?")
        terminal.type("n\n")
        assert terminal.finish() == 1
    assert len(json.loads(xin("--json").stdout)) == 2


def test_export_and_import_byte_for_byte(sessions: dict[str, int], tmp_path: Path) -> None:
    exported = run("export", "odd", "--format", "json")
    assert exported.returncode == 0, exported.stderr
    imported = run("import", "-", input=exported.stdout)
    assert imported.returncode == 0, imported.stderr
    again = run("export", imported.stdout.decode().strip(), "--json")
    assert again.stdout == exported.stdout
    assert b"2 sessions" in run("show", "odd").stderr
    assert ODD.encode() in run("export", "last").stdout
    file = tmp_path / "odd.html"
    assert xin("export", str(sessions["odd texts"]), "-o", str(file)).exit_code == 0
    assert file.read_bytes().startswith(b"<!doctype html>")
    refused = xin("export", str(sessions["odd texts"]), "-o", str(file))
    assert (refused.exit_code, "--force" in refused.stderr) == (2, True)
    assert xin("export", str(sessions["odd texts"]), "-o", str(file), "--force", "-f", "json").exit_code == 0
    assert json.loads(xin("import", str(file), "--json").stdout)["imported"]


def test_votes(sessions: dict[str, int]) -> None:
    assert [line.split() for line in xin("votes").stdout.splitlines()] == [
        ["MODEL", "WINS", "LOSSES", "TIES"],
        ["a", "1", "0", "0"],
        ["b", "0", "1", "0"],
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "cause"),
    [
        (["show", "99"], 3, "no session 99"),
        (["show", "9" * 40], 3, "no sessions have"),
        (["show", "narwhal"], 3, "narwhal"),
        (["show", "o"], 3, "2 sessions"),
        (["rename", "99", "x"], 3, "99"),
        (["delete", "99", "--yes"], 3, "99"),
        (["import", "/nowhere.json"], 2, "/nowhere.json"),
        (["import", os.devnull], 2, "not an exported session"),
        (["export", "last", "-f", "pdf"], 2, "pdf"),
        (["export", "last", "-f", "md", "--json"], 2, "together"),
        (["export", "last", "-o", "/nowhere/x.md"], 2, "/nowhere/x.md"),
        (["search"], 2, "WORDS"),
    ],
)
def test_errors_name_their_argument(sessions: dict[str, int], arguments: list[str], code: int, cause: str) -> None:
    done = xin(*arguments)
    assert done.exit_code == code, done.stderr
    assert cause in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_of_a_newer_xin_is_named(xin_home: Path) -> None:
    import sqlite3

    SessionStore().close()
    path = xin_home / "data" / "sessions.db"
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    done = xin("list")
    assert done.exit_code == 1
    assert f"{path} was written by a newer xin" in done.stderr
    assert "update xin" in done.stderr


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("COLUMNS", "80")
    yield
