"""Launch options, checked against the engine's own struct; node and worker use the same check."""

from __future__ import annotations

import difflib
from typing import Any

import msgspec

from xin.backends.base import Engine
from xin.errors import BadRequest


def convert_options(cls: type[Engine], options: dict[str, Any]) -> Any:
    """`options` as the engine's Options; strings are read as numbers and booleans. BadRequest names the field."""
    known = {field.encode_name: field for field in msgspec.structs.fields(cls.Options)}
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"{cls.name} takes: {', '.join(known) or 'no options'}"
            raise BadRequest(f"engine {cls.name} has no option {key!r}", hint, param=key)
    try:
        return msgspec.convert(given, cls.Options, strict=False)
    except msgspec.ValidationError as exc:
        field = str(exc).rpartition("$.")[2].strip("`") if "$." in str(exc) else None
        raise BadRequest(f"option {field or ''}: {str(exc).split(' - at')[0]}", param=field) from exc
