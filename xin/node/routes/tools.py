"""`tools`, `tool_choice` and `parallel_tool_calls`, as what a worker understands; calls in an answer."""

from __future__ import annotations

import re
from typing import Any

from xin.errors import BadRequest, UnsupportedParameter
from xin.node.routes.body import encoded
from xin.protocol.openai import ChatCompletionRequest, FunctionCall, ToolCall
from xin.worker.frames import CallDelta, Tools

MOST = 128  # OpenAI's limit
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_FIELDS: dict[str, tuple[type, str]] = {
    "description": (str, "a text"),
    "parameters": (dict, "an object"),
    "strict": (bool, "true or false"),
}
_CHOICES = ("auto", "none", "required")


def tools_of(body: ChatCompletionRequest) -> Tools | None:
    """None where nothing may be called. BadRequest names the field that is wrong."""
    given = _checked_tools(body.tools)
    choice, name = _choice(body.tool_choice, [tool["function"]["name"] for tool in given])
    if not given:
        for field in ("tool_choice", "parallel_tool_calls"):
            if getattr(body, field) is not None and not (field == "tool_choice" and choice in ("auto", "none")):
                raise BadRequest(f"{field} needs tools", f"send tools, or leave {field} out", param=field)
        return None
    if choice == "none":
        return None
    if body.response_format is not None and body.response_format.type != "text":
        raise UnsupportedParameter(
            "response_format cannot be combined with tools: a call has a form of its own",
            'leave one of them out, or set tool_choice to "none"',
            param="response_format",
        )
    return Tools(given, choice, name, body.parallel_tool_calls is not False)


def ignored_strict(tools: Tools | None) -> bool:
    """Whether a function asks for `strict` where the model is free to write what it likes."""
    return tools is not None and tools.choice == "auto" and any(tool["function"].get("strict") for tool in tools.given)


def joined(changes: list[CallDelta]) -> list[ToolCall]:
    """Calls put together from what came of them."""
    calls: dict[int, ToolCall] = {}
    for change in changes:
        call = calls.setdefault(change.index, ToolCall("", FunctionCall("", "")))
        call.id += change.id
        call.function.name += change.name
        call.function.arguments += change.arguments
    return list(calls.values())


def _checked_tools(tools: list[Any] | None) -> list[dict[str, Any]]:
    if tools is not None and len(tools) > MOST:
        raise BadRequest(f"tools: {len(tools)} are given", f"at most {MOST} are taken", param="tools")
    checked = [_tool(tool, f"tools[{i}]") for i, tool in enumerate(tools or ())]
    names = [tool["function"]["name"] for tool in checked]
    for i, name in enumerate(names):
        if name in names[:i]:
            where = f"tools[{i}].function.name"
            raise BadRequest(f"{where}: {name!r} is given twice", "give each function a name of its own", param=where)
    return checked


def _tool(tool: Any, where: str) -> dict[str, Any]:
    _object(tool, where, ("type", "function"))
    if tool.get("type") != "function":
        kind = str(tool.get("type"))[:80]
        raise UnsupportedParameter(
            f"{where}.type: tools of type {kind!r} are not supported", 'use "function"', param=f"{where}.type"
        )
    function, here = tool.get("function"), f"{where}.function"
    _object(function, here, ("name", "description", "parameters", "strict"))
    _check_name(function.get("name"), f"{here}.name")
    for key, (type_, wanted) in _FIELDS.items():
        if function.get(key) is not None and not isinstance(function[key], type_):
            raise BadRequest(f"{here}.{key}: expected {wanted}", param=f"{here}.{key}")
    encoded(function, here)
    given = {key: value for key, value in function.items() if value is not None}
    return {"type": "function", "function": given}


def _choice(choice: Any, names: list[str]) -> tuple[str, str | None]:
    if choice is None or choice in _CHOICES:
        return choice or "auto", None
    if not isinstance(choice, dict) or choice.get("type") != "function":
        hint = f'use one of {", ".join(_CHOICES)}, or {{"type": "function", "function": {{"name": "…"}}}}'
        if isinstance(choice, dict) and choice.get("type") in ("allowed_tools", "custom"):
            message = f"tool_choice of type {choice['type']} is not supported"
            raise UnsupportedParameter(message, hint, param="tool_choice")
        raise BadRequest(f"tool_choice: {str(choice)[:80]!r} is no choice", hint, param="tool_choice")
    _object(choice, "tool_choice", ("type", "function"))
    _object(choice.get("function"), "tool_choice.function", ("name",))
    name = choice["function"].get("name")
    _check_name(name, "tool_choice.function.name")
    if name not in names:
        known = f"given: {', '.join(names)}"[:300] if names else "send tools"
        raise BadRequest(f"tool_choice: tools has no function {name!r}", known, param="tool_choice.function.name")
    return "named", name


def _object(value: Any, where: str, known: tuple[str, ...]) -> None:
    if not isinstance(value, dict):
        if value is None:
            raise BadRequest(f"field {where!r} is required", param=where)
        raise BadRequest(f"{where}: expected an object", param=where)
    for key in value:
        if key not in known:
            raise BadRequest(
                f"unknown field '{where}.{key[:80]}'", f"known: {', '.join(known)}", param=f"{where}.{key[:80]}"
            )


def _check_name(name: Any, where: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadRequest(
            f"{where}: {str(name)[:80]!r} is no function name",
            "use up to 64 letters, digits, underscores, dots and dashes",
            param=where,
        )
