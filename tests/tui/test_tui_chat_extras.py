"""The chat's extras without their looks: slash commands, settings, differences, votes, the strip of figures."""

from __future__ import annotations

import random

import msgspec
import pytest

from xin.errors import UsageError
from xin.protocol.openai import SamplingFields
from xin.sessions.records import Standing
from xin.tui.chat import diff, sampling, slash
from xin.tui.chat.compare import fastest, strip
from xin.tui.chat.diff import word_diff
from xin.tui.chat.slash import Command, completions, parse
from xin.tui.chat.votes import Blind, Candidate, ballot, record_of

# ---- slash commands


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("/model qwen3-8b", Command("model", "qwen3-8b")),
        ("/MODEL  a b ", Command("model", "a b")),
        ("/system You are\nterse.", Command("system", "You are\nterse.")),
        ("/system", Command("system")),
        ("/set temperature 0.7", Command("set", "temperature 0.7", {"field": "temperature", "value": 0.7})),
        ("/set t=0", Command("set", "t=0", {"field": "temperature", "value": 0.0})),
        ("/set max_tokens = 1_024", Command("set", "max_tokens = 1_024", {"field": "max_tokens", "value": 1024})),
        ("/set seed", Command("set", "seed", {"field": "seed", "value": None})),
        ("/set top-p default", Command("set", "top-p default", {"field": "top_p", "value": None})),
        ("/set stop END", Command("set", "stop END", {"field": "stop", "value": ["END"]})),
        ('/set stop ["\\n", "x"]', Command("set", 'stop ["\\n", "x"]', {"field": "stop", "value": ["\n", "x"]})),
        ("/save", Command("save")),
        ("/export 'my talk.md'", Command("save", "'my talk.md'", {"path": "my talk.md"})),
        ("/image my\\ cat.png", Command("image", "my\\ cat.png", {"path": "my cat.png"})),
        ("/image /tmp/a b.png", Command("image", "/tmp/a b.png", {"path": "/tmp/a b.png"})),
        ("/load 12", Command("load", "12")),
        ("/clear", Command("clear")),
        ("/retry", Command("retry", "", {"all": False})),
        ("/regenerate ALL", Command("retry", "ALL", {"all": True})),
        ("/bench", Command("bench", "", {"tokens": 128})),
        ("/bench 64", Command("bench", "64", {"tokens": 64})),
    ],
)
def test_a_command_is_read(text: str, command: Command) -> None:
    assert parse(text) == command


@pytest.mark.parametrize("text", ["", "hello", " /clear", "//clear", "a /clear", "1/2", "//"])
def test_what_is_no_command(text: str) -> None:
    assert parse(text) is None


def test_two_slashes_send_one() -> None:
    assert slash.question("//usr/bin is a folder") == "/usr/bin is a folder"
    assert slash.question("plain") == "plain"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("/modle x", "no command /modle"),
        ("/", "no command /"),
        ("/ clear", "no command /"),
        ("/usr/bin/env", "no command /usr/bin/env"),
        ("/model", "/model: MODEL is missing"),
        ("/image", "/image: FILE is missing"),
        ("/image 'x", "/image: FILE"),
        ("/image 'a' 'b'", "more than one file"),
        ("/set", "/set: SETTING is missing"),
        ("/set warp 9", "no setting 'warp'"),
        ("/set temperature hot", "temperature: 'hot' is not a number from 0 to 2"),
        ("/set temperature 3", "temperature: '3' is not a number from 0 to 2"),
        ("/set temperature nan", "temperature"),
        ("/set top_k 1.5", "top_k: '1.5' is not a whole number"),
        ("/set seed 99999999999999999999", "seed"),
        ('/set stop ["a", ]', "stop"),
        ('/set stop ["a", 1]', "stop"),
        ('/set stop [""]', "stop"),
        ("/clear all", "/clear takes no argument, not 'all'"),
        ("/retry some", "/retry: 'some' is not all"),
        ("/bench many", "/bench: TOKENS: 'many'"),
        ("/bench 1", "/bench: TOKENS: '1'"),
        ("/bench ²", "/bench: TOKENS"),
    ],
)
def test_an_error_names_what_is_wrong(text: str, cause: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert cause in caught.value.message


def test_a_mistyped_command_is_guessed() -> None:
    with pytest.raises(UsageError) as caught:
        parse("/modle x")
    assert "/model?" in str(caught.value.hint)


def test_completions() -> None:
    assert [one.label for one in completions("/")] == [spec.usage for spec in slash.SPECS]
    assert [one.text for one in completions("/s")] == ["/system ", "/set ", "/save "]
    assert [one.text for one in completions("/cl")] == ["/clear"]
    assert [one.text for one in completions("/model q", models=["qwen", "llama"])] == ["/model qwen"]
    assert completions("/model qwen", models=["qwen"]) == []
    assert next(one.text for one in completions("/set pen")) == "/set repeat_penalty "
    (found,) = completions("/load sql", sessions=[(1, "SQL windows"), (2, "other")])
    assert (found.text, found.label) == ("/load 1", "1 SQL windows")
    assert completions("question") == completions("//x") == completions("/system a\nb") == []
    assert all(one.help for one in completions("/set "))


def test_every_command_has_words() -> None:
    for spec in slash.SPECS:
        assert spec.help and len(f"{spec.usage}  {spec.help}") < 76
    assert set(slash.ALIASES.values()) <= set(slash.BY_NAME)


# ---- settings


@pytest.mark.parametrize("field", sampling.FIELDS, ids=lambda field: field.name)
def test_a_field_takes_what_a_node_takes(field: sampling.Field) -> None:
    if field.kind == "stop":
        msgspec.convert({"model": "m", "stop": field.parse('["a", "b"]')}, SamplingFields)
        return
    for text in (f"{field.low:.0f}" if field.low == int(field.low) else str(field.low), f"{field.high:.0f}"):
        value = field.parse(str(2**63 - 1) if field.name == "seed" and text[0] != "-" else text)
        msgspec.convert({"model": "m", field.name: value}, SamplingFields)
    for text in (str(field.low - 1), "1e400", "x", "--1", "0x10"):
        with pytest.raises(UsageError, match=field.name):
            field.parse(text)


@pytest.mark.parametrize("value", [0.7, 0, 1024, ["END"], ["\n", "x"], [" x"], ["[x"], ["[INST]"], ['["x'], 1e-7])
def test_a_shown_value_is_read_back(value: object) -> None:
    name = {float: "temperature", int: "max_tokens", list: "stop"}[type(value)]
    assert sampling.BY_NAME[name].parse(sampling.shown(value)) == value


def test_settings_in_few_cells() -> None:
    assert sampling.summary({"seed": 7, "temperature": 0.7, "logit_bias": {}}) == "T 0.7 · seed 7"
    assert sampling.summary({}) == ""


# ---- differences


def test_own_words_are_marked_and_equal_ones_dimmed() -> None:
    made = word_diff("one two three\nfour", "one too three\nfour five")
    assert made.left.plain == "one two three\nfour"
    assert styled(made.left, diff.OWN_STYLES[0]) == ["two"]
    assert styled(made.right, diff.OWN_STYLES[1]) == ["too", "five"]
    assert styled(made.left, diff.EQUAL_STYLE) == ["one ", "three\nfour"]
    assert "underline" in diff.OWN_STYLES[0]


def styled(content: object, style: str) -> list[str]:
    plain = content.plain  # type: ignore[attr-defined]
    return [plain[span.start : span.end] for span in content.spans if span.style == style]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("left", "right", "header"),
    [
        ("", "", "100 % equal"),
        ("a", "", "0 % equal"),
        ("same words", "same  words\r\n", "100 % equal"),
        ("aaaa bbbb", "aaaa cccc", "50 % equal"),
        ("窗口函数", "窗口数", "86 % equal"),
        ("x " * 1000, "x " * 999 + "y", "99 % equal"),
        ("```py\nx = 1\n```", "```py\nx = 2\n```", "91 % equal · code blocks differ"),
        ("a\n```\nx\n```", "b\n```\nx\n```", "88 % equal · code blocks equal"),
    ],
)
def test_the_header(left: str, right: str, header: str) -> None:
    assert word_diff(left, right).header() == header


def test_the_header_counts_tokens() -> None:
    assert word_diff("a", "a").header(1280, 97) == "100 % equal · 1,280 vs 97 tok"


def test_no_escape_sequence_and_no_markup_comes_through() -> None:
    made = word_diff("\x1b[31mred\x1b[0m \0 [bold]x[/bold]\x9b2J", "[/]")
    assert made.left.plain == "red  [bold]x[/bold]2J"
    assert made.right.plain == "[/]"


@pytest.mark.parametrize("limit", [4, 20, 6000])
def test_texts_stay_whole_however_they_are_compared(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(diff, "MAX_WORDS", limit)
    dice = random.Random(limit)
    words = ["a", "b", "c ", "d\n", "\n", "e. ", " ", "中", "x_1 ", "```\n"]
    for _ in range(200):
        left, right = ("".join(dice.choice(words) for _ in range(dice.randrange(60))) for _ in range(2))
        made = word_diff(left, right)
        assert (made.left.plain, made.right.plain) == (left, right)
        assert 0 <= made.equal <= 1


# ---- votes


def candidates() -> list[Candidate]:
    return [
        Candidate(0, "qwen", "n1", "done", 84.0, None, 61.0, 128, sampling={"seed": 7}),
        Candidate(1, "llama", "n2", "done", 3200.0, 3100.0, 86.0, 97, system="be brief"),
        Candidate(2, "gemma", "n2", "failed", 112.0, None, None, 61),
    ]


def test_blind_names_tell_nothing_and_stay() -> None:
    orders = {tuple(Blind(range(4), seed=seed).order) for seed in range(50)}
    assert len(orders) > 5
    blind = Blind([0, 1, 2], seed=3)
    assert sorted(blind.name(pane) for pane in range(3)) == ["A", "B", "C"]
    assert [blind.name(one.pane) for one in blind.arranged(candidates())] == ["A", "B", "C"]
    late = Candidate(9, "new")
    assert blind.arranged([late, *candidates()])[-1] is late
    assert blind.name(9) == "?"


def test_a_ballot_keeps_the_conditions() -> None:
    first, second, _ = ballot(candidates(), "why?")
    assert first["model"] == "qwen" and first["sampling"] == {"seed": 7} and first["ttft_ms"] == 84.0
    assert first["prompt_sha256"] == second["prompt_sha256"] != ballot(candidates(), "how?")[0]["prompt_sha256"]
    assert first["system_sha256"] == "" != second["system_sha256"]
    assert record_of([Standing("qwen", 3, 1, 2)], "qwen") == "3 won  1 lost  2 tied"
    assert record_of([], "qwen") == ""


# ---- the strip of figures


def test_the_strip_packs_into_its_width() -> None:
    wide = strip(candidates(), 116).plain.splitlines()
    assert "84ms" in wide[0] and "61 t/s" in wide[0] and "2.2s" in wide[0]
    assert "after 61 tok" in "".join(wide)
    for width in (30, 50, 78, 116, 156):
        assert all(line.cell_length <= width for line in strip(candidates(), width).split("\n"))
    assert len(strip(candidates(), 78).plain.splitlines()) <= 3


def test_the_star_is_the_vote_or_the_soonest() -> None:
    two = candidates()[:2]
    assert fastest(two) == 1, "3.2 s of which 3.1 s of thinking count once"
    assert "soonest done" in strip(two, 116).plain
    voted = strip(two, 116, voted=0).plain
    assert "voted best" in voted
    assert voted.index("★") < voted.index("llama")
    two[0].state = "streaming"
    assert fastest(two) is None
    assert "★" not in strip(two, 116).plain
    assert fastest(candidates()[:1]) is None


def test_a_blind_strip_shows_no_names_and_no_figures() -> None:
    text = strip(candidates(), 116, blind=Blind(range(3), seed=1)).plain
    assert not any(word in text for word in ("qwen", "llama", "gemma", "t/s", "ms", "★"))
    assert all(letter in text for letter in "ABC")


def test_the_strip_before_figures_come() -> None:
    text = strip([Candidate(0, "[red]\x1b[31m", state="streaming"), Candidate(1, "b", state="streaming")], 78).plain
    assert "▶ waiting" in text and "[red]" in text and "\x1b" not in text
