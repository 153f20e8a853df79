"""An engine's Options as plain descriptions, for forms and docs."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import inspect

from xin.protocol.node import OptionSpec

_LINE = re.compile(r"^ *(\w+)  +(\S.*)$")
_NAMES = {
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.BoolType: "boolean",
    inspect.ListType: "list",
}


def option_specs(options: type[msgspec.Struct]) -> list[OptionSpec]:
    """In the order of the fields. Descriptions are the lines `name  words` of the struct's docstring."""
    info = inspect.type_info(options)
    assert isinstance(info, inspect.StructType)
    words = _descriptions(options.__doc__ or "")
    return [_spec(field, words.get(field.name, "")) for field in info.fields]


def _spec(field: inspect.Field, description: str) -> OptionSpec:
    kind = field.type
    if isinstance(kind, inspect.UnionType):
        kind = next(one for one in kind.types if not isinstance(one, inspect.NoneType))
    spec = OptionSpec(name=field.encode_name, type="string", default=_default(field), description=description)
    if isinstance(kind, inspect.LiteralType):
        spec.type, spec.choices = "choice", [str(value) for value in kind.values]
    else:
        spec.type = next((name for cls, name in _NAMES.items() if isinstance(kind, cls)), "string")
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        spec.minimum, spec.maximum = kind.ge, kind.le
    return spec


def _default(field: inspect.Field) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return None if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _descriptions(doc: str) -> dict[str, str]:
    found = (_LINE.match(line) for line in doc.splitlines())
    return {match[1]: match[2].strip() for match in found if match}
