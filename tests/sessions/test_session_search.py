from __future__ import annotations

from collections.abc import Iterator

import pytest

from xin.sessions import search
from xin.sessions.store import SessionStore

TEXTS = {
    "sql": "A window function computes a value: SELECT rank() OVER (PARTITION BY dept) -- 100%",
    "chinese": "窗口函数在不折叠行的情况下计算值。",
    "umlaut": 'Größe und ÄRGER, "gut" gesagt: don\'t',
    "odd": "before\0after [red]x[/red] \x1b[31m a_b NEAR AND OR",
    "emoji": "a family 👩‍👩‍👧 and a smile 🙂",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionStore]:
    with SessionStore(tmp_path_factory.mktemp("search") / "sessions.db") as opened:
        for title, text in TEXTS.items():
            session = opened.create(title)
            opened.add_message(session, 0, None, "user", "a question", turn=1)
            opened.add_message(session, 0, None, "assistant", text, turn=1)
        yield opened


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("window", ["sql"]),
        ("WINDO", ["sql"]),
        ("dept window", ["sql"]),
        ('"window function"', ["sql"]),
        ('"function window"', []),
        ("窗口", ["chinese"]),
        ("函数 计算值", ["chinese"]),
        ("口", ["chinese"]),
        ("größe", ["umlaut"]),
        ("GRÖSSE", []),
        ("är", ["umlaut"]),
        ("Ö", ["umlaut"]),
        ('"gut"', ["umlaut"]),
        ("don't", ["umlaut"]),
        ("after", ["odd"]),
        ("before\0after", ["odd"]),
        ("[red]", ["odd"]),
        ("NEAR AND OR", ["odd"]),
        ("NEAR(", []),
        ("a_b", ["odd"]),
        ("_", ["odd"]),
        ("%", ["sql"]),
        ("100%", ["sql"]),
        ("rank()", ["sql"]),
        ("-- 100", ["sql"]),
        ("win*", []),
        ("text:", []),
        ("^before", []),
        ("\\", []),
        ("🙂", ["emoji"]),
        ("👩‍👩‍👧", ["emoji"]),
        ("chines", ["chinese"]),
        ("question 窗口", ["chinese"]),
        ("x" * 100_000, []),
        ("nothing " * 1000, []),
        ("\ud83d", []),
    ],
)
def test_a_query_finds(store: SessionStore, query: str, titles: list[str]) -> None:
    assert [one.title for one in store.sessions(query)] == titles


@pytest.mark.parametrize("query", ["", "   ", '"', '""', '" "', "\0"])
def test_a_query_without_words_finds_all(store: SessionStore, query: str) -> None:
    assert len(store.sessions(query)) == len(TEXTS)


def test_the_snippet_shows_where(store: SessionStore) -> None:
    (found,) = store.sessions("dept")
    assert "PARTITION BY dept" in found.snippet
    assert found.snippet.startswith("…")
    (found,) = store.sessions("question umlaut")
    assert found.snippet == "a question"


@pytest.mark.parametrize(
    ("text", "word", "shown"),
    [
        ("", "", ""),
        ("a\n b\t\tc", "", "a b c"),
        ("x" * 300, "", "x" * 99 + "…"),
        ("start " * 50 + "needle end", "NEEDLE", "… start start start start start needle end"),
    ],
)
def test_snippets(text: str, word: str, shown: str) -> None:
    made = search.snippet(text, word)
    assert made.endswith(shown.lstrip("… "))
    assert len(made) <= search.SNIPPET_LENGTH
    assert "\n" not in made
