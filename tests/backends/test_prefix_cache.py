from __future__ import annotations

import numpy as np

from xin.backends.prefix_cache import PrefixCache


class Letters:
    """A vocabulary of the letters and of some pairs of them: text has more than one tokenisation."""

    pieces = [bytes([97 + i]) for i in range(26)] + [b"ab", b"cd", b"bc"]

    def piece(self, token: int, special: bool = False) -> bytes:
        return self.pieces[token]


def ids(text: str) -> list[int]:
    return [ord(char) - 97 for char in text]


def cache(capacity: int = 4, limit_bytes: int = 1000) -> PrefixCache:
    return PrefixCache(capacity, limit_bytes, Letters())


def park(it: PrefixCache, tokens: list[int], size_bytes: int = 10) -> bool:
    if wanted := it.wants(tokens, size_bytes):
        it.park(tokens, np.zeros(size_bytes, np.uint8))
    return wanted


def found(it: PrefixCache, text: str) -> list[int] | None:
    parked = it.best(ids(text), whole_only=False)[0]
    return None if parked is None else parked.tokens.tolist()


def test_the_longest_prefix_wins_and_the_last_token_is_never_cached() -> None:
    it = cache()
    park(it, ids("hellothere"))
    park(it, ids("helloworld"))
    parked, shared, tokens = it.best(ids("helloworld"), whole_only=False)
    assert parked is not None and (parked.tokens.tolist(), shared) == (ids("helloworld"), 9)
    assert tokens == ids("helloworld")


def test_other_tokens_of_the_same_text_are_spliced_in() -> None:
    it = cache()
    generated = [*ids("xxxxxxxx"), 26, 27, *ids("ef")]  # ab cd e f
    park(it, generated)
    parked, shared, tokens = it.best([*ids("xxxxxxxx"), *ids("abcdefgh")], whole_only=False)
    assert parked is not None
    assert tokens == [*generated, *ids("gh")]
    assert shared == len(generated)


def test_splicing_stops_where_the_texts_part() -> None:
    it = cache()
    park(it, [*ids("xxxxxxxx"), 26, 27])  # ab cd
    _, shared, tokens = it.best([*ids("xxxxxxxx"), *ids("abcq")], whole_only=False)
    assert tokens == [*ids("xxxxxxxx"), 26, *ids("cq")]
    assert shared == 9


def test_tokens_that_straddle_each_other_are_left_alone() -> None:
    it = cache()
    park(it, [*ids("xxxxxxxx"), 26, *ids("c")])  # ab c
    prompt = [*ids("xxxxxxxx"), *ids("a"), 28, *ids("z")]  # a bc z
    _, shared, tokens = it.best(prompt, whole_only=False)
    assert tokens == [*ids("xxxxxxxx"), 26, *ids("cz")]
    assert shared == 10


def test_a_recurrent_model_can_only_go_on_from_the_end() -> None:
    it = cache()
    park(it, ids("hello"))
    assert it.best(ids("help"), whole_only=True)[0] is None
    assert it.best(ids("hellothere"), whole_only=True)[1] == 5


def test_what_says_no_more_than_another_is_dropped() -> None:
    it = cache()
    assert park(it, ids("hello"))
    assert park(it, ids("hellothere"))
    assert not park(it, ids("hell"))
    assert len(it) == 1


def test_the_least_recently_used_goes_first() -> None:
    it = cache(2)
    park(it, ids("one"))
    park(it, ids("two"))
    it.best(ids("onex"), whole_only=False)
    park(it, ids("wxyz"))
    assert found(it, "twox") is None
    assert found(it, "onex") == ids("one")


def test_the_bytes_of_all_are_bounded() -> None:
    it = cache(limit_bytes=25)
    for text in ("one", "two", "wxyz"):
        park(it, ids(text), 10)
    assert len(it) == 2
    assert not park(it, ids("huge"), 26)
