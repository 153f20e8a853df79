"""Which replica gets a request: by what each still has to do, and by what each has read before."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import msgspec
import pytest

from xin.node import replicas_routing
from xin.node.replicas_routing import TYPICAL_ANSWER, Candidate, Prompt, Router, model_of, prompt_of

TWO = [Candidate("a"), Candidate("b")]
BUSY_B = [Candidate("a"), Candidate("b", running=1)]  # 512 tokens, less than a cache of 300 is worth


def chat(*texts: str, **fields: Any) -> bytes:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return msgspec.json.encode({"model": "m", "messages": messages, **fields})


def first(router: Router, prompt: Prompt, candidates: list[Candidate] = TWO) -> str:
    return router.order(candidates, prompt)[0].key


def test_the_one_with_the_fewest_outstanding_tokens():
    router = Router()
    short, long = (prompt_of(chat("hi", max_tokens=tokens)) for tokens in (16, 1000))
    other = prompt_of(chat("something else"))
    assert first(router, other) == "a"  # of equals the one that was named first
    with router.routed("a", long):
        assert first(router, other) == "b"
        with router.routed("b", short), router.routed("b", short):
            assert first(router, other) == "b"  # two, but together shorter
    assert first(router, other) == "a"
    assert not router._sent


def test_requests_that_came_by_another_way_count_too():
    router, asked = Router(), Prompt(answer=10)
    assert first(router, asked, [Candidate("a", running=2), Candidate("b", running=1)]) == "b"
    assert first(router, asked, [Candidate("a", running=2, workers=4), Candidate("b", running=1)]) == "a"
    with router.routed("a", asked):  # a's one is this one
        assert first(router, asked, [Candidate("a", running=1), Candidate("b", running=1)]) == "a"


def test_one_that_is_ready_comes_before_any_that_loads():
    assert first(Router(), Prompt(), [Candidate("a", ready=False), Candidate("b", running=50)]) == "b"


def test_a_conversation_returns_to_where_it_was_read():
    router = Router()
    said = "tell me of whales " * 40
    with router.routed("b", prompt_of(chat(said))):
        pass
    assert first(router, prompt_of(chat(said, "They sing.", "How?"))) == "b"
    assert first(router, prompt_of(chat("tell me of cats", "They purr.", "How?"))) == "a"
    busy = [Candidate("a"), Candidate("b", running=20)]
    assert first(router, prompt_of(chat(said, "They sing.", "How?")), busy) == "a"  # reading it again is cheaper


def test_equal_requests_at_once_are_divided():
    router, asked = Router(), prompt_of(chat("the same question", max_tokens=64))
    counts = {"a": 0, "b": 0}
    with ExitStack() as stack:
        for _ in range(10):
            chosen = first(router, asked)
            counts[chosen] += 1
            stack.enter_context(router.routed(chosen, asked))
    assert counts == {"a": 5, "b": 5}


@pytest.mark.parametrize("longer", ["x", "more " * 500, "y" * 300_000])
def test_a_longer_prompt_of_text_shares_the_points_of_its_beginning(longer: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(replicas_routing, "LATE_SECONDS", 0.0)
    text = "".join(f"line {i} of the story\n" for i in range(400))
    router = Router()
    with router.routed("b", prompt_of(msgspec.json.encode({"model": "m", "prompt": text}))):
        pass
    again = prompt_of(msgspec.json.encode({"model": "m", "prompt": text + longer}))
    assert len(again.points) <= replicas_routing.MOST_POINTS
    assert first(router, again, BUSY_B) == "b"
    assert first(router, prompt_of(msgspec.json.encode({"model": "other", "prompt": text})), BUSY_B) == "a"


@pytest.mark.parametrize(
    "said", [chat("the handbook " * 200, "Yes?", "what of leave {i}?"), b'{"model": "m", "prompt": "%s"}']
)
def test_nodes_that_know_nothing_of_one_another_choose_alike(said: bytes):
    """Two nodes' routers: their own candidate comes first in each list."""
    homes = []
    for i in range(40):
        body = said.replace(b"handbook", b"handbook %d" % i).replace(b"%s", b"chapter %d " % i * 200)
        later = body.replace(b"?", b"? More of it, please.") if b"?" in body else body.replace(b'"}', b' and so on"}')
        homes.append(first(Router(), prompt_of(body)))
        assert first(Router(), prompt_of(later), TWO[::-1]) == homes[-1]
        busy = [Candidate(one.key, running=one.key == homes[-1]) for one in TWO]
        assert first(Router(), prompt_of(later), busy) != homes[-1]
    assert 8 <= homes.count("a") <= 32


def test_a_short_prompt_is_answered_where_it_was_asked():
    for i in range(20):
        assert first(Router(), prompt_of(chat(f"hello {i}"))) == "a"
        assert first(Router(), prompt_of(chat(f"hello {i}")), TWO[::-1]) == "b"


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(replicas_routing, "MOST_PREFIXES", 10)
    monkeypatch.setattr(replicas_routing, "LATE_SECONDS", 0.0)
    router = Router()
    for i in range(50):
        with router.routed("b", prompt_of(chat(f"question {i} " * 100))):
            pass
    assert len(router._seen) == 10
    assert first(router, prompt_of(chat("question 49 " * 100, "yes", "so")), BUSY_B) == "b"
    assert first(router, prompt_of(chat("question 3 " * 100, "yes", "so")), BUSY_B) == "a"


def test_a_replica_that_left_is_forgotten():
    router, said = Router(), chat("tell me of whales " * 40)
    with router.routed("b", prompt_of(said)):
        pass
    router.forget("b")
    assert first(router, prompt_of(said)) == "a"


@pytest.mark.parametrize(
    ("body", "model", "answer"),
    [
        (b"", "", TYPICAL_ANSWER),
        (b"{", "", TYPICAL_ANSWER),
        (b"[1]", "", TYPICAL_ANSWER),
        (b'{"model": "m", "messages": "no list"}', "m", TYPICAL_ANSWER),
        (b'{"model": 5}', "", TYPICAL_ANSWER),
        (b'{"model": "m", "input": "embed me"}', "m", TYPICAL_ANSWER),
        (b'{"model": "m", "prompt": [1, 2, 3], "max_tokens": -4}', "m", TYPICAL_ANSWER),
        (b'{"model": "m", "prompt": null, "max_tokens": "many", "n": []}', "m", TYPICAL_ANSWER),
        (b'{"model": "m", "messages": [], "max_tokens": 7, "n": 3}', "m", 21),
        (b'{"model": "\\ud800"}', "", TYPICAL_ANSWER),
        (b"[" * 100_000, "", TYPICAL_ANSWER),
    ],
)
def test_a_wrong_body_is_no_reason_to_fail(body: bytes, model: str, answer: int):
    found = prompt_of(body)
    assert (found.answer, model_of(body)) == (answer, found.model)
    assert found.model == model or "ud800" in repr(body)


def test_what_has_just_ended_is_not_counted_as_somebody_elses(monkeypatch: pytest.MonkeyPatch):
    router, asked = Router(), Prompt(answer=64)
    with router.routed("a", asked), router.routed("a", asked):
        pass
    late = [Candidate("a", running=2), Candidate("b", running=1)]  # a has not said yet that they are done
    assert first(router, asked, late) == "a"
    monkeypatch.setattr(replicas_routing, "LATE_SECONDS", 0.0)
    assert first(router, asked, late) == "b"
