from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xin.worker.frames import TokenLogprob
from xin.worker.text import TextStream


def run(pieces: list[bytes], stops: list[str]) -> tuple[str, str | None]:
    stream, out = TextStream(stops), ""
    for piece in pieces:
        released = stream.feed(piece)
        out += released.text
        if released.stop:
            return out, released.stop
    last = stream.flush()
    return out + last.text, last.stop


@given(st.text(), st.data())
def test_any_split_of_utf8_gives_the_text(text: str, data: st.DataObject) -> None:
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert run(pieces, []) == (text, None)


@given(st.text(alphabet="abA\n", max_size=30), st.lists(st.text(alphabet="abA\n", min_size=1, max_size=4), max_size=3))
def test_stop_strings_end_the_text_before_the_first_of_them(text: str, stops: list[str]) -> None:
    out, stop = run([char.encode() for char in text], stops)
    hits = [(text.find(s), s) for s in stops if s in text]
    if not hits:
        assert (out, stop) == (text, None)
    else:
        assert stop is not None
        assert out + stop == text[: len(out) + len(stop)]
        assert not any(s in out for s in stops)


def test_text_that_may_become_a_stop_string_is_held_and_then_given() -> None:
    stream = TextStream(["END"])
    assert stream.feed(b"aE").text == "a"
    assert stream.feed(b"N").text == ""
    assert stream.feed(b"x").text == "ENx"


def test_half_a_character_at_the_end_is_shown_as_a_replacement() -> None:
    stream = TextStream([])
    assert stream.feed("é".encode()[:1]).text == ""
    assert stream.flush().text == "\ufffd"


def test_logprobs_stay_with_their_text_and_those_of_the_stop_string_are_dropped() -> None:
    stream = TextStream(["STOP"])
    notes = [TokenLogprob(i, piece, -1.0) for i, piece in enumerate([b"hi ", b"ST", b"OP"])]
    released = [stream.feed(note.piece, 1, [note]) for note in notes]
    assert released[0].logprobs == [notes[0]]
    assert released[1].logprobs is None
    assert released[2].stop == "STOP"
    assert released[2].logprobs is None


@pytest.mark.parametrize("size", [1, 3, 7])
def test_tokens_are_counted_with_the_text_they_stand_for(size: int) -> None:
    stream = TextStream(["zz"])
    total = sum(stream.feed(b"z" if i % 2 else b"a").tokens for i in range(size)) + stream.flush().tokens
    assert total == size
