"""Chat messages: checked by hand, since roles and content parts are refused by name."""

from __future__ import annotations

from typing import Any

from xin.errors import BadRequest, UnsupportedParameter

ROLES = ("system", "developer", "user", "assistant", "tool")
_KEPT = frozenset({"role", "content", "name", "reasoning_content", "tool_call_id"})
_DROPPED = frozenset({"refusal", "annotations"})  # what OpenAI's own replies carry when they are sent back
_REFUSED = {"function_call": "use tool_calls", "audio": "send text messages"}
_LATER_PARTS = {"input_audio": "audio", "file": "files", "video_url": "video"}


def take_legacy_history(data: dict[str, Any]) -> None:
    """Make the 2023 call `chat(prompt, chat_history)` a list of messages, in place.

    Today's Xinference client sends it as `messages` = the prompt and `tools` = the history. Empty tools and
    functions ask for nothing and are dropped.
    """
    tools = data.get("tools")
    if tools == []:
        del data["tools"]
    elif isinstance(data.get("messages"), str) and _is_history(tools):
        data["messages"] = [*data.pop("tools"), {"role": "user", "content": data["messages"]}]
    if data.get("functions") == []:
        del data["functions"]
    if data.get("function_call") == "none":
        del data["function_call"]


def checked_messages(messages: list[dict[str, Any]] | str) -> list[dict[str, Any]]:
    """Messages as templates want them: a role and a string. BadRequest names what is wrong in which one.

    A user's content with images stays a list of parts, `image_url` parts as they came: see `take_images`.
    """
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not messages:
        raise BadRequest("messages is empty", "send at least one message", param="messages")
    return [_message(message, f"messages[{i}]") for i, message in enumerate(messages)]


def _message(message: dict[str, Any], where: str) -> dict[str, Any]:
    given = {key: value for key, value in message.items() if value is not None}
    role = given.get("role")
    if role is None:
        raise BadRequest(f"field '{where}.role' is required", param=f"{where}.role")
    if role == "function" or any(given.get(key) for key in _REFUSED):
        name = "role" if role == "function" else next(key for key in _REFUSED if given.get(key))
        hint = _REFUSED.get(name, 'use the role "tool"')
        raise UnsupportedParameter(f"{where}.{name} is not supported here", hint, param=f"{where}.{name}")
    if role not in ROLES:
        expected = ", ".join(ROLES)
        raise BadRequest(f"{where}.role: expected one of {expected}, got {str(role)[:80]!r}", param=f"{where}.role")
    for key in given:
        if key not in _KEPT | _DROPPED | _REFUSED.keys() and not (key == "tool_calls" and role == "assistant"):
            raise BadRequest(f"unknown field '{where}.{key[:80]}'", param=f"{where}.{key[:80]}")
    if role == "tool" and "tool_call_id" not in given:
        param = f"{where}.tool_call_id"
        raise BadRequest(f"field {param!r} is required", "say which call this answers", param=param)
    for key in ("name", "reasoning_content", "tool_call_id"):
        if not isinstance(given.get(key, ""), str):
            raise BadRequest(f"{where}.{key}: expected str", param=f"{where}.{key}")
    kept = {key: value for key, value in given.items() if key in _KEPT}
    kept["content"] = _content(given.get("content"), role, f"{where}.content")
    if calls := given.get("tool_calls"):
        kept["tool_calls"] = _calls(calls, f"{where}.tool_calls")
    return kept


def _calls(calls: object, where: str) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        raise BadRequest(f"{where}: expected a list of calls", param=where)
    return [_call(call, f"{where}[{i}]") for i, call in enumerate(calls)]


def _call(call: object, where: str) -> dict[str, Any]:
    kind = call.get("type", "function") if isinstance(call, dict) else None
    match call:
        case {"id": str(id_), "function": {"name": str(name), "arguments": str(arguments)}} if kind == "function":
            return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
    raise BadRequest(
        f"{where} is no call of a function",
        'give {"id": "…", "type": "function", "function": {"name": "…", "arguments": "{…}"}}',
        param=where,
    )


def _content(content: object, role: str, where: str) -> str | list[dict[str, Any]]:
    match content:
        case str():
            return content
        case None if role == "assistant":
            return ""
        case None:
            raise BadRequest(f"field {where!r} is required", param=where)
        case list():
            parts = [_part(part, role, f"{where}[{i}]") for i, part in enumerate(content)]
            texts = [part for part in parts if isinstance(part, str)]
            if len(texts) == len(parts):
                return "\n".join(texts)
            return [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    raise BadRequest(f"{where}: expected str or a list of parts, got {_name(content)}", param=where)


def _part(part: object, role: str, where: str) -> str | dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    match part:
        case {"type": "text", "text": str(text)} | {"type": "refusal", "refusal": str(text)}:
            return text
        case {"type": "text"}:
            raise BadRequest(f"{where}.text: expected str", param=f"{where}.text")
        case {"type": "image_url", **rest} if role == "user":
            return {"type": "image_url", "image_url": rest.get("image_url")}
        case {"type": "image_url"}:
            raise BadRequest(f"{where}: only a user's messages have images", param=where)
    if isinstance(kind, str) and kind in _LATER_PARTS:
        raise UnsupportedParameter(
            f"{where}: {kind} parts are not supported: this version takes no {_LATER_PARTS[kind]}",
            "send text parts only",
            param=where,
        )
    raise BadRequest(f"{where}: expected a part of type text, got {str(kind)[:80]!r}", param=where)


def _is_history(tools: object) -> bool:
    return isinstance(tools, list) and all(isinstance(item, dict) and "role" in item for item in tools)


def _name(value: object) -> str:
    return {dict: "object", bool: "bool", int: "int", float: "float"}.get(type(value), "null")
