"""OpenAI's four forms of a prompt or input: a text, texts, token ids, lists of token ids."""

from __future__ import annotations

from xin.errors import BadRequest


def texts_or_tokens(value: str | list[str | int | list[int]], param: str) -> list[str | list[int]]:
    """One entry per input; a flat list of ids is one input. BadRequest when empty or of mixed kinds."""
    if isinstance(value, str):
        return [value]
    if not value:
        raise BadRequest(f"{param} is empty", "send at least one", param=param)
    if all(isinstance(item, int) for item in value):
        return [[item for item in value if isinstance(item, int)]]
    kind = str if isinstance(value[0], str) else list
    entries: list[str | list[int]] = []
    for i, item in enumerate(value):
        if isinstance(item, int) or not isinstance(item, kind):
            raise BadRequest(f"{param}[{i}]: all entries must be of one kind", param=f"{param}[{i}]")
        entries.append(item)
    return entries
