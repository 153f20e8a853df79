"""Chat messages: checked by hand, since roles and content parts are refused by name."""

from __future__ import annotations

from typing import Any

from xin.errors import BadRequest, UnsupportedParameter

ROLES = ("system", "developer", "user", "assistant")
TOOL_ROLES = ("tool", "function")
_KEPT = frozenset({"role", "content", "name", "reasoning_content"})
_DROPPED = frozenset({"refusal", "annotations"})  # what OpenAI's own replies carry when they are sent back
_TOOLS = frozenset({"tool_calls", "function_call", "tool_call_id", "audio"})
_LATER_PARTS = {"input_audio": "audio", "file": "files", "video_url": "video"}


def take_legacy_history(data: dict[str, Any]) -> None:
    """Make the 2023 call `chat(prompt, chat_history)` a list of messages, in place.

    Today's Xinference client sends it as `messages` = the prompt and `tools` = the history. Empty tools, and
    `tool_choice: "none"`, ask for nothing and are dropped.
    """
    tools = data.get("tools")
    if tools == []:
        del data["tools"]
    elif isinstance(data.get("messages"), str) and _is_history(tools):
        data["messages"] = [*data.pop("tools"), {"role": "user", "content": data["messages"]}]
    if data.get("functions") == []:
        del data["functions"]
    for name in ("tool_choice", "function_call"):
        if data.get(name) == "none":
            del data[name]


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
    if role in TOOL_ROLES or any(given.get(key) for key in _TOOLS):
        name = "role" if role in TOOL_ROLES else next(key for key in _TOOLS if given.get(key))
        raise UnsupportedParameter(
            f"{where}.{name}: tool calls and audio are not supported yet", "send text messages", param=f"{where}.{name}"
        )
    if role not in ROLES:
        expected = ", ".join(ROLES)
        raise BadRequest(f"{where}.role: expected one of {expected}, got {str(role)[:80]!r}", param=f"{where}.role")
    for key in given:
        if key not in _KEPT | _DROPPED | _TOOLS:
            raise BadRequest(f"unknown field '{where}.{key[:80]}'", param=f"{where}.{key[:80]}")
    for key in ("name", "reasoning_content"):
        if not isinstance(given.get(key, ""), str):
            raise BadRequest(f"{where}.{key}: expected str", param=f"{where}.{key}")
    kept = {key: value for key, value in given.items() if key in _KEPT}
    kept["content"] = _content(given.get("content"), role, f"{where}.content")
    return kept


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
