"""Chat messages as they come over HTTP, brought to the shape that templates and prompt styles are written for."""

from __future__ import annotations

from typing import Any

from xin.errors import BadRequest, UnsupportedParameter

Message = dict[str, Any]


def checked(messages: list[Message], *, images: bool = False) -> list[Message]:
    """Copies with a role and a text or list of text parts each; BadRequest names the field that is wrong.

    `images`: parts of type image stay, without what is in them.
    """
    if not messages:
        raise BadRequest("messages is empty", "send at least one message", param="messages")
    return [_checked(message, f"messages[{i}]", images) for i, message in enumerate(messages)]


def with_text(messages: list[Message]) -> list[Message]:
    """Content parts joined to one text, a line each."""
    return [message | {"content": _joined(message["content"])} for message in messages]


def with_parts(messages: list[Message]) -> list[Message]:
    """Content as a list of text parts, for templates that know nothing else."""
    return [message | {"content": _parted(message["content"])} for message in messages]


def _checked(message: Message, where: str, images: bool) -> Message:
    if not isinstance(message, dict):
        raise BadRequest(f"{where} is not an object", param=where)
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise BadRequest(f"{where} has no role", 'give "role": "user"', param=f"{where}.role")
    content = message.get("content")
    if content is None:
        content = ""
    elif isinstance(content, list):
        content = [_part(part, f"{where}.content[{i}]", images) for i, part in enumerate(content)]
    elif not isinstance(content, str):
        raise BadRequest(f"{where}.content is neither a text nor a list of parts", param=f"{where}.content")
    return message | {"content": content}


def _part(part: Any, where: str, images: bool) -> dict[str, str]:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise BadRequest(f"{where} is not a part with a type", 'give {"type": "text", "text": …}', param=where)
    if part["type"] == "image" and images:
        return {"type": "image"}
    if part["type"] not in ("text", "refusal"):
        message = f"this model takes text only, not a part of type {part['type']!r}"
        raise UnsupportedParameter(message, param=f"{where}.type")
    text = part.get(part["type"])
    if not isinstance(text, str):
        raise BadRequest(f"{where}.{part['type']} is not a text", param=f"{where}.{part['type']}")
    return {"type": "text", "text": text}


def _joined(content: str | list[dict[str, str]]) -> str:
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)


def _parted(content: str | list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
