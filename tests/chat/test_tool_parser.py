"""ToolParser: the same calls and the same content however the text is cut."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xin.chat.tool_parser import MARKS, ToolParser
from xin.worker.text import TextStream

NAMES = ["weather", "add"]
Calls = list[tuple[str, str]]

WEATHER = '{"city": "Zürich ☂", "note": "a } \\" ] </tool_call> {"}'
ADD = '{"a": 1, "b": [2, {"c": 3}]}'
OUT = [("weather", WEATHER), ("add", ADD)]


def written(name: str, arguments: str, key: str = "arguments") -> str:
    return f'{{"name": "{name}", "{key}": {arguments}}}'


HERMES = f"<tool_call>\n{written('weather', WEATHER)}\n</tool_call>"
BEGIN, END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, SEP, DONE = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
BOTH = f"[{written('weather', WEATHER)}, {written('add', ADD)}]"

CASES: list[tuple[str, str, str, Calls]] = [
    # hermes
    ("hermes", "", "", []),
    ("hermes", "Just words,\n < and { too.\n", "Just words,\n < and { too.\n", []),
    ("hermes", HERMES, "", OUT[:1]),
    ("hermes", f"{HERMES}\n<tool_call>\n{written('add', ADD)}\n</tool_call>\n", "", OUT),
    ("hermes", f"Let me see.\n\n{HERMES}\nThat is all.", "Let me see.\nThat is all.", OUT[:1]),
    ("hermes", f"<tool_call>{BOTH}</tool_call>", "", OUT),
    ("hermes", f'<tool_call>{{"arguments": {ADD}, "name": "add"}}</tool_call>', "", OUT[1:]),
    ("hermes", '<tool_call>{"name": "add"}</tool_call>', "", [("add", "{}")]),
    ("hermes", '<tool_call>{"name": "add", "arguments": null}</tool_call>', "", [("add", "{}")]),
    ("hermes", '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [("add", '{"a": 1}')]),
    ("hermes", '<tool_call>{"name": "new", "arguments": {}}</tool_call>', "", [("new", "{}")]),
    (
        "hermes",
        '<tool_call>{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}</tool_call>',
        "",
        [("add", '{"a": 1}')],
    ),
    ("hermes", "a <tool_call>add(1)</tool_call> b", "a <tool_call>add(1)</tool_call> b", []),
    ("hermes", 'a <tool_call>{"x": 1}</tool_call> b', 'a <tool_call>{"x": 1}</tool_call> b', []),
    ("hermes", "a <tool_ca", "a <tool_ca", []),
    ("hermes", '<tool_call>{"name": "add", "argum', '<tool_call>{"name": "add", "argum', []),
    ("hermes", '<tool_call>{"name": "add", "arguments": {"a": "1', "", [("add", '{"a": "1')]),
    # llama 3
    ("llama3", written("weather", WEATHER, "parameters"), "", OUT[:1]),
    ("llama3", f"<|python_tag|>{written('weather', WEATHER, 'parameters')}", "", OUT[:1]),
    ("llama3", f"{written('weather', WEATHER, 'parameters')}; {written('add', ADD, 'parameters')}", "", OUT),
    ("llama3", f"{written('weather', WEATHER)}\n{written('add', ADD)}\n", "", OUT),
    ("llama3", f"Well. <|python_tag|>{written('add', ADD)}", "Well.", OUT[1:]),
    ("llama3", f"{written('add', ADD)}; so be it", "so be it", OUT[1:]),
    ("llama3", f'{{"type": "function", {written("add", ADD)[1:]}', "", OUT[1:]),
    ("llama3", ' {"colour": {"name": "add"}} is JSON', ' {"colour": {"name": "add"}} is JSON', []),
    ("llama3", written("unknown", "{}"), written("unknown", "{}"), []),
    ("llama3", '{"name": "add"}', '{"name": "add"}', []),
    ("llama3", "<|python_tag|>print(1)", "<|python_tag|>print(1)", []),
    ("llama3", "[1, 2] and {", "[1, 2] and {", []),
    # mistral
    ("mistral", f"[TOOL_CALLS] {BOTH}", "", OUT),
    ("mistral", f"Sure [TOOL_CALLS]{BOTH}", "Sure", OUT),
    ("mistral", f'[TOOL_CALLS] [{{"name": "add", "arguments": {ADD}, "id": "abcdef123"}}]', "", OUT[1:]),
    ("mistral", f"[TOOL_CALLS]weather{WEATHER}[TOOL_CALLS]add{ADD}", "", OUT),
    ("mistral", f"[TOOL_CALLS]weather[ARGS]{WEATHER}[TOOL_CALLS]add[CALL_ID]a1b2c3d4e[ARGS]{ADD}", "", OUT),
    ("mistral", "[TOOL_CALLS] what is that?", "[TOOL_CALLS] what is that?", []),
    ("mistral", "[TOOL", "[TOOL", []),
    # deepseek
    ("deepseek", f"{BEGIN}{CALL}function{SEP}weather\n```json\n{WEATHER}\n```{DONE}\n{END}", "", OUT[:1]),
    (
        "deepseek",
        f"Hm.\n{BEGIN}{CALL}function{SEP}weather\n```json\n{WEATHER}\n```{DONE}\n{CALL}function{SEP}add\n"
        f"```json\n{ADD}\n```{DONE}{END}",
        "Hm.",
        OUT,
    ),
    ("deepseek", f"{BEGIN}{CALL}weather{SEP}{WEATHER}{DONE}{CALL}add{SEP}{ADD}{DONE}{END}", "", OUT),
    ("deepseek", f"{BEGIN}{CALL}function{SEP}{{}}{DONE}{END}", "", [("function", "{}")]),
    ("deepseek", "a ```json\n{}\n``` b <｜tool", "a ```json\n{}\n``` b <｜tool", []),
    # plain JSON
    ("json", written("weather", WEATHER), "", OUT[:1]),
    ("json", f"\n{BOTH}\n", "", OUT),
    ("json", f"```json\n{BOTH}\n```", "", OUT),
    ("json", '```json\n{"a": 1}\n```', '```json\n{"a": 1}\n```', []),
    ("json", "```python\nadd(1)\n```", "```python\nadd(1)\n```", []),
    ("json", f"Use {written('add', ADD)}", f"Use {written('add', ADD)}", []),
    ("json", f"[{written('add', ADD)}, ", "", OUT[1:]),
]


def parsed(format_: str, pieces: list[str], **options: bool) -> tuple[str, Calls]:
    parser = ToolParser(format_, NAMES, **options)
    content, calls = "", {}
    for text, changes in [*(parser.feed(piece) for piece in pieces), parser.flush()]:
        content += text
        for change in changes:
            call = calls.setdefault(change.index, ["", "", ""])
            assert bool(change.id) == bool(change.name) == (not call[0]), "id and name come once, and first"
            call[0], call[1], call[2] = call[0] + change.id, call[1] + change.name, call[2] + change.arguments
    ids = [call[0] for call in calls.values()]
    assert len(set(ids)) == len(ids)
    assert list(calls) == list(range(len(calls)))
    return content, [(name, arguments) for _, name, arguments in calls.values()]


def texts(pieces: list[bytes]) -> list[str]:
    """As a worker feeds them: bytes put together to characters."""
    stream = TextStream([])
    return [*(stream.feed(piece).text for piece in pieces), stream.flush().text]


@pytest.mark.parametrize(("format_", "text", "content", "calls"), CASES)
def test_at_every_byte(format_: str, text: str, content: str, calls: Calls) -> None:
    assert parsed(format_, [text]) == (content, calls)
    raw = text.encode()
    assert parsed(format_, texts([raw[i : i + 1] for i in range(len(raw))])) == (content, calls)
    for cut in range(len(raw)):
        assert parsed(format_, texts([raw[:cut], raw[cut:]])) == (content, calls), (raw[:cut], raw[cut:])


PARTS = ["<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", BEGIN, CALL, SEP, DONE, END, "<|python_tag|>"]
PARTS += ["```json\n", "```", '{"name": "add", "arguments": ', '{"a": 1}', "}", "[", "]", '"', "\\", ", ", ": "]
PARTS += ["\n", " ", "add", "{", '"name"', '"arguments"', "null", "1", "é"]


@given(
    format_=st.sampled_from(sorted(MARKS)),
    parts=st.lists(st.sampled_from(PARTS), max_size=14),
    cuts=st.lists(st.integers(0, 150), max_size=12),
)
def test_cuts_never_matter(format_: str, parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    assert parsed(format_, [text[a:b] for a, b in itertools.pairwise(places)]) == parsed(format_, [text])


@given(format_=st.sampled_from(sorted(MARKS)), text=st.text())
def test_words_without_a_call_are_content_letter_by_letter(format_: str, text: str) -> None:
    assert parsed(format_, list(text)) == (text, [])


def test_arguments_go_out_as_they_come() -> None:
    parser = ToolParser("hermes", NAMES)
    parser.feed('<tool_call>{"name": "add", "arguments": ')
    told = [parser.feed(piece)[1] for piece in ('{"a"', ": 1", "}")]
    assert [[change.arguments for change in changes] for changes in told] == [["", '{"a"'], [": 1"], ["}"]]
    assert told[0][0].name == "add"


@pytest.mark.parametrize("cut", [1, 1000])
@pytest.mark.parametrize("format_", ["hermes", "mistral"])
def test_one_call_at_a_time(format_: str, cut: int) -> None:
    text = f"So: {HERMES} {HERMES} and more" if format_ == "hermes" else f"So: [TOOL_CALLS]{BOTH} and more"
    parser = ToolParser(format_, NAMES, parallel=False)
    told = [parser.feed(text[i : i + cut]) for i in range(0, len(text), cut)]
    assert parser.finished
    assert "".join(content for content, _ in [*told, parser.flush()]) == "So:"
    assert [change.name for _, changes in told for change in changes if change.name] == ["weather"]
    assert json.loads("".join(change.arguments for _, changes in told for change in changes)) == json.loads(WEATHER)


def test_short_ids_are_what_mistrals_template_takes() -> None:
    (change, *_), _ = ToolParser("mistral", NAMES, short_ids=True).feed("[TOOL_CALLS]add{}")[1], None
    assert len(change.id) == 9
    assert change.id.isalnum()
