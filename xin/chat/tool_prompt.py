"""What a model is told of tools: through its template, or in words where that knows none; and what forces a call."""

from __future__ import annotations

import json
from typing import Any

from xin.chat.messages import Message
from xin.chat.tool_parser import DEEPSEEK, HERMES, MISTRAL, PYTHON_TAG
from xin.worker.frames import Constraint, Tools

MOST_FORCED_CALLS = 8  # without a bound a small model calls without end

# Forms that no parser here reads; a template may have marks of a known one beside them.
_FOREIGN = ("<function=", "<arg_key>", "<function_calls>", "<|tool_calls_section_begin|>", "<|channel|>", "functools[")
_WORDS = """You may call one or more functions to assist with the user's query. Here they are, in JSON:
<tools>
{tools}
</tools>

For each call, answer with a JSON object with the function's name and its arguments, within <tool_call></tool_call>:
<tool_call>
{{"name": "the function's name", "arguments": {{"a parameter": "its value"}}}}
</tool_call>"""


def format_of(source: str) -> str:
    """How a template that knows tools writes calls, by its marks; "" for a form that is not read here."""
    if any(mark in source for mark in _FOREIGN):
        return ""
    if HERMES[0] in source:
        return "hermes"
    if MISTRAL in source:
        return "mistral"
    if DEEPSEEK[0] in source:
        return "deepseek"
    return "llama3" if PYTHON_TAG in source or "<|start_header_id|>" in source else "json"


def without_tools(messages: list[Message], tools: list[dict[str, Any]] | None) -> list[Message]:
    """For a template that knows no tools: they are described in the system message, calls and results are text."""
    told = [_as_text(message) for message in messages]
    if not tools:
        return told
    words = _WORDS.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))
    if told and told[0].get("role") in ("system", "developer"):
        return [told[0] | {"content": f"{_plain(told[0].get('content'))}\n\n{words}"}, *told[1:]]
    return [{"role": "system", "content": words}, *told]


def _as_text(message: Message) -> Message:
    if message.get("role") == "tool":
        return {"role": "user", "content": f"<tool_response>\n{_plain(message.get('content'))}\n</tool_response>"}
    if not message.get("tool_calls"):
        return message
    calls = [with_objects(call)["function"] for call in message["tool_calls"]]
    written = [f"{HERMES[0]}\n{json.dumps(_named(call), ensure_ascii=False)}\n{HERMES[1]}" for call in calls]
    said = _plain(message.get("content"))
    kept = {key: value for key, value in message.items() if key != "tool_calls"}
    return kept | {"content": "\n".join([*([said] if said else []), *written])}


def with_objects(call: dict[str, Any]) -> dict[str, Any]:
    """A call with its arguments as an object, as most templates want them, where the text is one."""
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"])
    except (ValueError, RecursionError):
        return call
    return call | {"function": function | {"arguments": arguments}} if isinstance(arguments, dict) else call


def forced(tools: Tools) -> Constraint:
    """What the text of a forced choice must match: one call as a JSON object, or a list of them."""
    wanted = [tool["function"] for tool in tools.given if tools.choice != "named" or _name(tool) == tools.name]
    several = tools.choice == "required" and tools.parallel
    where = "#/items" if several else "#"
    if len(wanted) == 1:
        one = _call_schema(wanted[0], where)
    else:
        one = {"anyOf": [_call_schema(function, f"{where}/anyOf/{i}") for i, function in enumerate(wanted)]}
    listed = {"type": "array", "minItems": 1, "maxItems": MOST_FORCED_CALLS, "items": one}
    return Constraint("json_schema", json.dumps(listed if several else one, ensure_ascii=False))


def _call_schema(function: dict[str, Any], where: str) -> dict[str, Any]:
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    here = f"{where}/properties/arguments"
    properties = {"name": {"const": function["name"]}, "arguments": _moved(parameters, here)}
    return {
        "type": "object",
        "properties": properties,
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _moved(schema: Any, where: str) -> Any:
    """A schema with its references to its own parts following it to `where` in a larger one."""
    if isinstance(schema, list):
        return [_moved(item, where) for item in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: _moved(value, where) for key, value in schema.items()}
    target = schema.get("$ref")
    if isinstance(target, str) and target.startswith("#"):
        moved["$ref"] = where + target[1:]
    return moved


def _named(function: dict[str, Any]) -> dict[str, Any]:
    return {"name": function["name"], "arguments": function["arguments"]}


def _name(tool: dict[str, Any]) -> str:
    return str(tool["function"]["name"])


def _plain(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content)
    return content or ""
