"""The sampling settings that a person can type, for one pane or all: /set, and the dialog of ctrl+t."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from xin.errors import UsageError

_LIST = re.compile(r'\s*\[\s*"')  # [INST] is a text


@dataclass(frozen=True, slots=True)
class Field:
    """A request field and the values that a node takes."""

    name: str
    kind: Literal["int", "float", "stop"]
    help: str
    low: float = 0
    high: float = math.inf

    @property
    def range(self) -> str:
        if self.kind == "stop":
            return "text, or a list as JSON"
        number = "a whole number" if self.kind == "int" else "a number"
        if self.high == math.inf:
            return f"{number}, {self.low:g} or more" if self.low > -math.inf else number
        return f"{number} from {self.low:g} to {self.high:g}"

    def parse(self, text: str) -> Any:
        """The value; None (unset) for nothing or "default". Raises UsageError that names the field."""
        text = text.strip() if self.kind != "stop" else text
        if text.strip() in ("", "default"):
            return None
        if self.kind == "stop":
            return _stops(text)
        try:
            value = int(text.replace("_", "")) if self.kind == "int" else float(text.replace(",", "."))
        except ValueError:
            value = math.nan
        if not self.low <= value <= self.high:
            raise UsageError(f"{self.name}: {text[:40]!r} is not {self.range}", "empty leaves it to the model")
        return value


FIELDS = (
    Field("temperature", "float", "0 = always the likeliest token", 0, 2),
    Field("top_p", "float", "only the likeliest tokens that together have this probability", 0, 1),
    Field("top_k", "int", "only so many of the likeliest tokens; 0 = all", 0, 1_000_000),
    Field("min_p", "float", "no token less likely than this part of the likeliest", 0, 1),
    Field("repeat_penalty", "float", "over 1 = repeat less", 0.01, 10),
    Field("presence_penalty", "float", "over 0 = new words", -2, 2),
    Field("frequency_penalty", "float", "over 0 = fewer frequent words", -2, 2),
    Field("max_tokens", "int", "limit of an answer", 0, 2**31 - 1),
    Field("seed", "int", "for repeatable answers", -(2**63), 2**63 - 1),
    Field("stop", "stop", "where an answer ends"),
)
BY_NAME = {field.name: field for field in FIELDS}
SHORT = {"t": "temperature", "temp": "temperature", "max": "max_tokens", "repetition_penalty": "repeat_penalty"}


def field_of(name: str) -> Field:
    """By its name or a short one. Raises UsageError that names it."""
    key = name.strip().lower().replace("-", "_")
    field = BY_NAME.get(SHORT.get(key, key))
    if field is None:
        raise UsageError(f"there is no setting {name!r}", f"settings: {', '.join(BY_NAME)}")
    return field


def shown(value: Any) -> str:
    """A value as it would be typed."""
    if value is None:
        return ""
    if isinstance(value, list):
        plain = len(value) == 1 and value[0].strip() == value[0] and not _LIST.match(value[0])
        return str(value[0]) if plain else msgspec.json.encode(value).decode()
    return f"{value:g}" if isinstance(value, float) else str(value)


def summary(sampling: dict[str, Any]) -> str:
    """In a few cells: T 0.7 · max 1024 · seed 7."""
    names = {"temperature": "T", "max_tokens": "max"}
    parts = [f"{names.get(name, name)} {shown(sampling[name])}" for name in BY_NAME if sampling.get(name) is not None]
    return " · ".join(parts)


def _stops(text: str) -> list[str]:
    try:
        found = msgspec.json.decode(text, type=list[str]) if _LIST.match(text) else [text]
    except msgspec.DecodeError as exc:
        raise UsageError(f"stop: {text[:40]!r} is not a list of texts", 'for example ["\\n\\n", "END"]') from exc
    if not found or "" in found or len(found) > 64:
        raise UsageError("stop: from 1 to 64 texts, none of them empty", "empty leaves it to the model")
    return found
