"""How a model is told of tools, by templates that know them and by words; and the schema that forces a call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from xin.chat.constraint import ConstraintFactory
from xin.chat.template import ChatTemplate
from xin.chat.tool_prompt import forced, format_of, without_tools
from xin.errors import BadRequest
from xin.worker.frames import Tools

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "abcdef123", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
TALK = [
    {"role": "user", "content": "1?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "abcdef123", "content": "4"},
]

# Each wants calls in a way of its own: arguments as an object, or as text; content as None, or as "".
OBJECTS = """{% for m in messages %}{% if m.tool_calls %}{% for c in m.tool_calls %}<tool_call>\
{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}</tool_call>{% endfor %}\
{% else %}{{ m.role }}: {{ m.content }}
{% endif %}{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}"""
TEXT = """{% for m in messages %}{% if m.content is none %}{% for c in m.tool_calls %}<｜tool▁calls▁begin｜>\
{{ c.function.name + ' ' + c.function.arguments }}{% endfor %}{% else %}{{ m.role + ': ' + m.content }}
{% endif %}{% endfor %}"""
NO_NONE = """{% for m in messages %}{{ m.role + ': ' + m.content }}
{% for c in m.tool_calls or [] %}{{ c.function.arguments.items() | list }}{% endfor %}{% endfor %}"""
REFUSING = """{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}\
{% endfor %}"""


def plain(source: str) -> ChatTemplate:
    return ChatTemplate(source, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (OBJECTS, 'user: 1?\n<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>tool: 4\n'),
        (TEXT, 'user: 1?\n<｜tool▁calls▁begin｜>add {"a": 1}tool: 4\n'),
        (NO_NONE, "user: 1?\nassistant: \n[('a', 1)]tool: 4\n"),
    ],
)
def test_a_template_gets_calls_as_it_wants_them(source: str, shown: str) -> None:
    assert plain(source).render(TALK) == shown


def test_a_template_that_sets_tools_itself_still_knows_them() -> None:
    source = (
        "{% if not tools is defined %}{% set tools = none %}{% endif %}{% if tools %}{{ tools | length }}{% endif %}"
    )
    assert plain(source).mentions("tools")
    assert plain(source).render(TALK[:1], tools=[TOOL]) == "1"
    assert plain(source).render(TALK[:1]) == ""


def test_a_template_that_refuses_says_why() -> None:
    with pytest.raises(BadRequest, match="no tools here"):
        plain(REFUSING).render(TALK)


def test_arguments_that_are_no_object_stay_text() -> None:
    broken = CALL | {"function": {"name": "add", "arguments": "{cut"}}
    talk = [TALK[0], TALK[1] | {"tool_calls": [broken]}]
    assert '"arguments": "{cut"' in plain(OBJECTS).render(talk)


def test_words_for_a_template_without_tools() -> None:
    told = without_tools([{"role": "system", "content": "Be brief."}, *TALK], [TOOL])
    assert [message["role"] for message in told] == ["system", "user", "assistant", "user"]
    assert told[0]["content"].startswith("Be brief.\n\nYou may call")
    assert json.dumps(TOOL) in told[0]["content"]
    assert told[2] == {
        "role": "assistant",
        "content": '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>',
    }
    assert told[3]["content"] == "<tool_response>\n4\n</tool_response>"
    assert without_tools(TALK[:1], [TOOL])[0]["role"] == "system"
    assert without_tools(TALK[:1], None) == TALK[:1]


@pytest.mark.parametrize(
    ("source", "format_"),
    [
        (OBJECTS, "hermes"),
        (TEXT, "deepseek"),
        ("{% if tools %}{% endif %}[AVAILABLE_TOOLS] [TOOL_CALLS]", "mistral"),
        ("<|start_header_id|>{% if tools %}{% endif %}", "llama3"),
        ("{% if tools %}<|python_tag|>{% endif %}", "llama3"),
        ("{% if tools %}{{ tools }}{% endif %}", "json"),
        ("<tool_call>\n<function=add>\n<parameter=a>", ""),
        ("<tool_call>add\n<arg_key>a</arg_key>", ""),
    ],
)
def test_the_format_is_told_by_the_template(source: str, format_: str) -> None:
    assert format_of(source) == format_


def matches(factory: ConstraintFactory, vocabulary: Any, tools: Tools, text: str) -> bool:
    matcher = factory.compile(forced(tools)).matcher()
    for token in vocabulary.tokenize(text.encode()):
        try:
            matcher.accept(token)
        except Exception:
            return False
    return matcher.accepting()


NODE = {
    "type": "object",
    "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "unit": {"$ref": "#/$defs/unit"}},
    "required": ["next", "unit"],
    "$defs": {"unit": {"enum": ["C"]}},
}
WALK = {"type": "function", "function": {"name": "walk", "parameters": NODE}}
ONE = '{"name": "walk", "arguments": {"next": {"next": null, "unit": "C"}, "unit": "C"}}'
OTHER = '{"name": "add", "arguments": {}}'


@pytest.mark.parametrize(
    ("tools", "right", "wrong"),
    [
        (Tools([TOOL, WALK], "required"), [f"[{ONE}]", f"[{OTHER}, {ONE}]"], [ONE, "[]", "Well", f"[{OTHER} "]),
        (Tools([TOOL, WALK], "required", parallel=False), [ONE, OTHER], [f"[{ONE}]"]),
        (Tools([TOOL, WALK], "named", "walk"), [ONE], [OTHER, ONE.replace('"C"', '"F"'), f"[{ONE}]"]),
        (Tools([WALK], "required"), [f"[{ONE}]"], [f"[{OTHER}]", f"[{', '.join([ONE] * 9)}]"]),
    ],
)
def test_what_a_forced_choice_lets_through(
    factory: ConstraintFactory, vocabulary: Any, tools: Tools, right: list[str], wrong: list[str]
) -> None:
    assert [text for text in right if not matches(factory, vocabulary, tools, text)] == []
    assert [text for text in wrong if matches(factory, vocabulary, tools, text)] == []
