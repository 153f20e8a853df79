"""Tool calls through the real openai client: echo says what each family writes, SmolLM2 is forced."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai as sdk
import pytest
from live_node import LiveNode
from openai import OpenAI
from pydantic import BaseModel

from xin.client import Client

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"$ref": "#/$defs/unit"}},
    "required": ["city", "unit"],
    "$defs": {"unit": {"enum": ["C", "F"]}},
}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "How it is.", "parameters": PARAMETERS}}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]},
    },
}
SCHEMAS = {tool["function"]["name"]: tool["function"]["parameters"] for tool in (WEATHER, ADD)}
ASK = [{"role": "user", "content": "How is the weather in Paris?"}]
CITY, SUM = '{"city": "Zürich", "unit": "C"}', '{"a": 1}'
BEGIN, END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
SAID = {
    "hermes": f'One moment.\n<tool_call>\n{{"name": "weather", "arguments": {CITY}}}\n</tool_call>\n'
    f'<tool_call>\n{{"name": "add", "arguments": {SUM}}}\n</tool_call>',
    "llama3": f'{{"name": "weather", "parameters": {CITY}}}; {{"name": "add", "parameters": {SUM}}}',
    "mistral": f"One moment.[TOOL_CALLS]weather[ARGS]{CITY}[TOOL_CALLS]add[ARGS]{SUM}",
    "deepseek": f"One moment.\n{BEGIN}<｜tool▁call▁begin｜>weather<｜tool▁sep｜>{CITY}<｜tool▁call▁end｜>"
    f"<｜tool▁call▁begin｜>add<｜tool▁sep｜>{SUM}<｜tool▁call▁end｜>{END}",
    "json": f'[{{"name": "weather", "arguments": {CITY}}}, {{"name": "add", "arguments": {SUM}}}]',
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("tools-node")) as node:
        for format_, answer in SAID.items():
            node.launch("echo", model_uid=format_, answer=answer, tool_format=format_)
        node.launch("echo")
        node.launch("smollm2", context_length=2048)
        yield node


@pytest.fixture(scope="module")
def client(node: LiveNode) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{node.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


def ask(client: OpenAI, model: str, **fields: Any) -> Any:
    return client.chat.completions.create(**{"model": model, "messages": ASK, "tools": [WEATHER, ADD], **fields})


def told(choice: Any) -> tuple[str | None, list[tuple[str, str]], str]:
    calls = choice.message.tool_calls or []
    assert all(call.type == "function" and call.id for call in calls)
    assert len({call.id for call in calls}) == len(calls)
    return choice.message.content, [(c.function.name, c.function.arguments) for c in calls], choice.finish_reason


def streamed(client: OpenAI, model: str, **fields: Any) -> tuple[str | None, list[tuple[str, str]], str]:
    """As a plain answer; put together from its deltas by the rules of OpenAI's documentation."""
    content, reason = "", ""
    calls: dict[int, list[str]] = {}
    for chunk in ask(client, model, stream=True, **fields):
        (choice,) = chunk.choices
        content += choice.delta.content or ""
        reason = choice.finish_reason or reason
        for news in choice.delta.tool_calls or []:
            if news.index not in calls:
                assert (bool(news.id), news.type) == (True, "function")
                calls[news.index] = [news.function.name, ""]
            else:
                assert news.id is None and news.function.name is None
            calls[news.index][1] += news.function.arguments
    return content or None, [(name, arguments) for name, arguments in calls.values()], reason


# ---- auto


@pytest.mark.parametrize("format_", SAID)
def test_calls_are_told_as_openai_tells_them(client: OpenAI, format_: str):
    content = None if format_ in ("llama3", "json") else "One moment."
    expected = (content, [("weather", CITY), ("add", SUM)], "tool_calls")
    assert told(ask(client, format_).choices[0]) == expected
    assert streamed(client, format_) == expected
    assert streamed(client, format_, tool_choice="auto", n=1) == expected


def test_the_sdks_own_assembly_gives_the_same_call(client: OpenAI):
    tools = [tool | {"function": tool["function"] | {"strict": True}} for tool in (WEATHER, ADD)]
    with client.chat.completions.stream(model="hermes", messages=ASK, tools=tools) as stream:
        final = stream.get_final_completion()
    assert told(final.choices[0]) == ("One moment.", [("weather", CITY), ("add", SUM)], "tool_calls")


def test_none_leaves_the_text_as_it_is(client: OpenAI):
    answer = ask(client, "hermes", tool_choice="none").choices[0]
    assert (answer.message.content, answer.message.tool_calls) == (SAID["hermes"], None)
    assert answer.finish_reason == "stop"


def test_words_are_no_call(client: OpenAI):
    answer = ask(client, "echo").choices[0]
    assert (answer.message.content, answer.message.tool_calls) == (ASK[0]["content"], None)
    assert answer.finish_reason == "stop"


@pytest.mark.parametrize("format_", SAID)
def test_one_call_at_a_time(client: OpenAI, format_: str):
    _, calls, reason = told(ask(client, format_, parallel_tool_calls=False).choices[0])
    assert (calls, reason) == ([("weather", CITY)], "tool_calls")
    assert streamed(client, format_, parallel_tool_calls=False)[1:] == (calls, reason)


def test_a_call_that_is_cut_off_is_told_as_far_as_it_came(client: OpenAI):
    _, calls, reason = told(ask(client, "hermes", max_tokens=9).choices[0])
    assert reason == "length"
    assert calls[0][0] == "weather"
    assert CITY.startswith(calls[0][1])


def test_every_choice_has_its_own_calls(client: OpenAI):
    answer = ask(client, "json", n=2)
    assert [told(choice)[1] for choice in answer.choices] == [[("weather", CITY), ("add", SUM)]] * 2


# ---- forced, on a real model


def test_required_calls_are_valid(client: OpenAI):
    fields = {"tool_choice": "required", "temperature": 1, "seed": 1}
    content, calls, reason = told(ask(client, "smollm2", **fields).choices[0])
    assert (content, reason) == (None, "tool_calls")
    assert calls
    for name, arguments in calls:
        jsonschema.validate(json.loads(arguments), SCHEMAS[name])


def test_a_named_function_is_called_once(client: OpenAI):
    fields = {"tool_choice": {"type": "function", "function": {"name": "weather"}}, "temperature": 0}
    content, calls, reason = told(ask(client, "smollm2", **fields).choices[0])
    assert (content, reason) == (None, "tool_calls")
    ((name, arguments),) = calls
    assert name == "weather"
    jsonschema.validate(json.loads(arguments), PARAMETERS)
    assert streamed(client, "smollm2", **fields) == (content, calls, reason)


def test_required_and_not_parallel_is_one_call(client: OpenAI):
    fields = {"tool_choice": "required", "parallel_tool_calls": False, "temperature": 1, "seed": 3}
    _, calls, reason = told(ask(client, "smollm2", **fields).choices[0])
    assert (len(calls), reason) == (1, "tool_calls")


def test_a_pydantic_tool_parses_into_its_class(client: OpenAI):
    class Weather(BaseModel):
        city: str

    answer = client.chat.completions.parse(
        model="smollm2", messages=ASK, tools=[sdk.pydantic_function_tool(Weather)], tool_choice="required",
        parallel_tool_calls=False, temperature=0,
    )  # fmt: skip
    assert isinstance(answer.choices[0].message.tool_calls[0].function.parsed_arguments, Weather)


def test_a_conversation_goes_on_after_a_call(client: OpenAI):
    called = ask(client, "smollm2", tool_choice="required", parallel_tool_calls=False, temperature=0).choices[0].message
    result = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "18 degrees, sunny"}
    answer = ask(client, "smollm2", messages=[*ASK, called, result], temperature=0, max_tokens=1)
    without = ask(client, "smollm2", messages=[*ASK, called, result | {"content": ""}], temperature=0, max_tokens=1)
    assert answer.usage.prompt_tokens > without.usage.prompt_tokens, "the result is part of the prompt"


def test_tools_are_part_of_the_prompt_unless_none(client: OpenAI):
    def tokens(**fields: Any) -> int:
        return ask(client, "smollm2", max_tokens=1, **fields).usage.prompt_tokens

    bare = client.chat.completions.create(model="smollm2", messages=ASK, max_tokens=1).usage.prompt_tokens
    assert tokens() > bare + 50
    assert tokens(tool_choice="none") == bare


# ---- refused by name

NAMED = {"type": "function", "function": {"name": "nothing"}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": "weather"}, "tools"),
        ({"tools": ["weather"]}, "tools[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": [{"type": "function", "function": {"name": "a", "colour": 1}}]}, "tools[0].function.colour"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
        ({"tools": [WEATHER] * 129}, "tools"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"tool_choice": NAMED}, "tool_choice.function.name"),
        ({"tool_choice": "required", "tools": []}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),  # echo cannot be forced
        ({"parallel_tool_calls": False, "tools": []}, "parallel_tool_calls"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"extra_body": {"functions": [WEATHER["function"]]}}, "functions"),
        ({"extra_body": {"chat_template_kwargs": {"tools": []}}}, "chat_template_kwargs.tools"),
        ({"messages": [*ASK, {"role": "tool", "content": "4"}]}, "messages[1].tool_call_id"),
        ({"messages": [*ASK, {"role": "function", "name": "f", "content": "4"}]}, "messages[1].role"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "x"}]}]}, "messages[0].tool_calls[0]"),
        ({"messages": [{"role": "user", "content": "", "tool_calls": [{"id": "x"}]}]}, "messages[0].tool_calls"),
    ],
)
def test_what_is_wrong_with_tools_is_named(client: OpenAI, fields: dict[str, Any], param: str):
    with pytest.raises(sdk.BadRequestError) as refused:
        ask(client, "echo", **fields)
    assert refused.value.param == param


def test_a_schema_that_cannot_be_enforced_is_refused_when_it_is_forced(client: OpenAI):
    odd = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    tool = {"type": "function", "function": {"name": "odd", "parameters": odd}}
    with pytest.raises(sdk.BadRequestError, match="uniqueItems") as refused:
        ask(client, "smollm2", tools=[tool], tool_choice="required")
    assert refused.value.param == "tool_choice"


def test_strict_without_force_is_named_as_ignored(node: LiveNode):
    strict = WEATHER | {"function": WEATHER["function"] | {"strict": True}}
    body = {"model": "echo", "messages": ASK, "tools": [strict]}
    reply = node.http.post("/v1/chat/completions", json=body)
    assert reply.headers["xin-ignored"] == "tools.function.strict"


def test_a_template_in_a_form_that_is_not_read_is_refused_unless_forced(node: LiveNode, client: OpenAI):
    template = "{% for m in messages %}{{ m.content }}{% endfor %}{% if tools %}<function={% endif %}"
    node.launch("smollm2", model_uid="odd", context_length=1024, chat_template=template)
    with pytest.raises(sdk.BadRequestError, match="not read here") as refused:
        ask(client, "odd")
    assert refused.value.param == "tools"
    fields = {"tool_choice": "required", "parallel_tool_calls": False, "temperature": 0, "max_tokens": 400}
    assert told(ask(client, "odd", **fields).choices[0])[2] == "tool_calls"


# ---- our own client


def test_our_client_takes_tools_and_gives_calls(node: LiveNode, tmp_path: Path):
    with Client(node.url) as client:
        answer = client.chat("hermes", ASK, tools=[WEATHER, ADD])
        (first, second) = answer.choices[0].message.tool_calls
        assert (first.function.name, first.function.arguments, second.function.name) == ("weather", CITY, "add")
        assert answer.choices[0].finish_reason == "tool_calls"
        handle = client.get_model("hermes")
        plain = handle.chat("Hello", tools=[WEATHER])
        assert plain["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "weather"
