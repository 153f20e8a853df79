from __future__ import annotations

from xin.backends.llama_cpp.prefix_cache import PrefixCache


class Letters:
    """A vocabulary of the letters and of some pairs of them: text has more than one tokenisation."""

    pieces = [bytes([97 + i]) for i in range(26)] + [b"ab", b"cd", b"bc"]

    def piece(self, token: int, special: bool = False) -> bytes:
        return self.pieces[token]


def ids(text: str) -> list[int]:
    return [ord(char) - 97 for char in text]


def cache(capacity: int = 4) -> PrefixCache:
    return PrefixCache(capacity, Letters())  # type: ignore[arg-type]


def test_the_longest_prefix_wins_and_the_last_token_is_never_cached() -> None:
    it = cache()
    it.park(1, ids("hellothere"))
    it.park(2, ids("helloworld"))
    parked, shared, tokens = it.best(ids("helloworld"), whole_only=False)
    assert parked is not None and (parked.slot, shared) == (2, 9)
    assert tokens == ids("helloworld")


def test_other_tokens_of_the_same_text_are_spliced_in() -> None:
    it = cache()
    generated = [*ids("xxxxxxxx"), 26, 27, *ids("ef")]  # ab cd e f
    it.park(1, generated)
    parked, shared, tokens = it.best([*ids("xxxxxxxx"), *ids("abcdefgh")], whole_only=False)
    assert parked is not None
    assert tokens == [*generated, *ids("gh")]
    assert shared == len(generated)


def test_splicing_stops_where_the_texts_part() -> None:
    it = cache()
    it.park(1, [*ids("xxxxxxxx"), 26, 27])  # ab cd
    _, shared, tokens = it.best([*ids("xxxxxxxx"), *ids("abcq")], whole_only=False)
    assert tokens == [*ids("xxxxxxxx"), 26, *ids("cq")]
    assert shared == 9


def test_tokens_that_straddle_each_other_are_left_alone() -> None:
    it = cache()
    it.park(1, [*ids("xxxxxxxx"), 26, *ids("c")])  # ab c
    prompt = [*ids("xxxxxxxx"), *ids("a"), 28, *ids("z")]  # a bc z
    _, shared, tokens = it.best(prompt, whole_only=False)
    assert tokens == [*ids("xxxxxxxx"), 26, *ids("cz")]
    assert shared == 10


def test_a_recurrent_model_can_only_go_on_from_the_end() -> None:
    it = cache()
    it.park(1, ids("hello"))
    assert it.best(ids("help"), whole_only=True)[0] is None
    assert it.best(ids("hellothere"), whole_only=True)[1] == 5


def test_what_says_no_more_than_another_is_dropped() -> None:
    it = cache()
    assert it.park(1, ids("hello")) == []
    assert it.park(2, ids("hellothere")) == [1]
    assert it.park(3, ids("hell")) == [3]
    assert (len(it), it.cells) == (1, 10)


def test_the_least_recently_used_goes_first() -> None:
    it = cache(2)
    it.park(1, ids("one"))
    it.park(2, ids("two"))
    it.best(ids("onex"), whole_only=False)
    assert it.park(3, ids("three")) == [2]
