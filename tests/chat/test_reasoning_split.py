"""ReasoningSplit: the same halves however the text is cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xin.chat.reasoning import ReasoningSplit, opens_reasoning

CASES = [
    ("<think>\nhm, so\n</think>\n\nHello", False, "Hello", "hm, so"),
    ("  \n<think>a</think>b", False, "b", "a"),
    ("Hello", False, "Hello", ""),
    ("  Hello  ", False, "  Hello  ", ""),
    ("\n \n", False, "\n \n", ""),
    ("I say <think> aloud</think>", False, "I say <think> aloud</think>", ""),
    ("<thinking>x", False, "<thinking>x", ""),
    ("<thin", False, "<thin", ""),
    ("<think>never closed </thi", False, "", "never closed </thi"),
    ("<think>\n\n</think>\n\nHello ", False, "Hello ", ""),
    ("<think>a</think> \n", False, "", "a"),
    ("<think>a < b </ think></think>yes </think>", False, "yes </think>", "a < b </ think>"),
    ("so it is\n</think>\n\nHello", True, "Hello", "so it is"),
    ("<think>again</think>x", True, "x", "again"),
    ("still going ", True, "", "still going"),
    ("", False, "", ""),
    ("", True, "", ""),
]


def split(pieces: list[str], opened: bool) -> tuple[str, str]:
    splitter = ReasoningSplit(opened=opened)
    given_out = [*(splitter.feed(piece) for piece in pieces), splitter.flush()]
    return "".join(content for content, _ in given_out), "".join(thought for _, thought in given_out)


@pytest.mark.parametrize(("text", "opened", "content", "reasoning"), CASES)
def test_at_every_cut(text: str, opened: bool, content: str, reasoning: str) -> None:
    assert split([text], opened) == (content, reasoning)
    assert split(list(text), opened) == (content, reasoning)
    for cut in range(len(text)):
        assert split([text[:cut], text[cut:]], opened) == (content, reasoning)


TEXT = st.lists(st.sampled_from(["<think>", "</think>", "<", "</", "think", ">", " ", "\n", "a", "b<"])).map("".join)


@given(text=TEXT, opened=st.booleans(), cuts=st.lists(st.integers(0, 60)))
def test_cuts_never_matter(text: str, opened: bool, cuts: list[int]) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    assert split(pieces, opened) == split([text], opened)


@given(thought=st.text(st.characters(exclude_characters="<")), answer=st.text())
def test_a_thought_and_its_answer(thought: str, answer: str) -> None:
    assert split([f"<think>{thought}</think>{answer}"], False) == (answer.lstrip(), thought.strip())


def test_content_is_not_held_back() -> None:
    splitter = ReasoningSplit()
    assert splitter.feed("Hel") == ("Hel", "")
    assert splitter.feed("lo <") == ("lo <", "")
    thinking = ReasoningSplit(opened=True)
    assert thinking.feed("so") == ("", "so")
    assert thinking.feed(" it <") == ("", " it")
    assert thinking.feed("is") == ("", " <is")


def test_a_prompt_that_opens_a_thought() -> None:
    assert opens_reasoning("<|im_start|>assistant\n<think>\n")
    assert not opens_reasoning("<|im_start|>assistant\n<think>\n\n</think>\n\n")
