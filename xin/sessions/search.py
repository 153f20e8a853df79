"""Search: every word must occur somewhere in the session or its title, as a part of a word or not, in any case."""

from __future__ import annotations

import re
import sqlite3

MAX_TERMS = 16
MAX_TERM_LENGTH = 200
SNIPPET_LENGTH = 100
_INDEXED_LENGTH = 3  # shorter terms have no token of three letters, so the text itself is looked through
_TERM = re.compile(r'"([^"]*)(?:"|$)|(\S+)')


def terms(query: str) -> list[str]:
    """Words, and phrases in quotation marks; everything else is meant literally."""
    found = [quoted or word for quoted, word in _TERM.findall(searchable(_whole(query)))]
    return [term[:MAX_TERM_LENGTH] for term in found if term.strip()][:MAX_TERMS]


def searchable(text: str) -> str:
    """What is put into the index: SQLite's tokenizers end at a NUL."""
    return text.replace("\0", " ")


def sessions_with(connection: sqlite3.Connection, words: list[str]) -> dict[int, int]:
    """Ids of the sessions that have all of `words`, each with the row of `found` where the first one was met."""
    result: dict[int, int] | None = None
    for word in words:
        rows = _rows(connection, word)
        result = rows if result is None else {id: row for id, row in result.items() if id in rows}
    return result or {}


def text_of(connection: sqlite3.Connection, row: int) -> str:
    found = connection.execute("SELECT text FROM found WHERE rowid = ?", (row,)).fetchone()
    return found[0] if found else ""


def snippet(text: str, word: str = "") -> str:
    """A line of the text, around `word` where it has it."""
    at = max(text.casefold().find(word.casefold()), 0) if word else 0
    start = max(at - SNIPPET_LENGTH // 3, 0)
    cut = " ".join(text[start : start + 2 * SNIPPET_LENGTH].split())
    line = ("…" if start and cut else "") + cut
    return line if len(line) <= SNIPPET_LENGTH else f"{line[: SNIPPET_LENGTH - 1]}…"


def _rows(connection: sqlite3.Connection, word: str) -> dict[int, int]:
    if len(word) >= _INDEXED_LENGTH:
        quoted = word.replace('"', '""')
        condition, values = "found MATCH ?", [f'"{quoted}"']
    else:
        variants = {word, word.lower(), word.upper()}  # LIKE itself ignores the case of ASCII only
        condition = "(" + " OR ".join(["found.text LIKE ? ESCAPE '\\'"] * len(variants)) + ")"
        values = [f"%{_escaped(variant)}%" for variant in variants]
    rows = connection.execute(
        "SELECT coalesce(messages.session_id, -found.rowid), max(found.rowid) FROM found"
        f" LEFT JOIN messages ON messages.id = found.rowid WHERE {condition} GROUP BY 1",
        values,
    )
    return dict(rows.fetchall())


def _whole(text: str) -> str:
    """Without half characters, which SQLite does not take."""
    return text.encode("utf-8", "replace").decode()


def _escaped(word: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", word)
