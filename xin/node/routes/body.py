"""From the bytes of a request to a struct: every fault is a 400 that names the field."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from xin.errors import BadRequest, UnsupportedParameter
from xin.protocol.openai import NO_OPS, REFUSED

IGNORED_HEADER = "xin-ignored"
T = TypeVar("T", bound=msgspec.Struct)
_decode_json = msgspec.json.Decoder().decode
_encode_json = msgspec.json.Encoder().encode
_encode_frame = msgspec.msgpack.Encoder().encode
_PATH = re.compile(r" - at `(?:key in )?\$(?P<path>.*)`$")


async def read_object(request: web.Request) -> dict[str, Any]:
    """The JSON object of the body; keys whose value is null are left out, since null means unset."""
    raw = await request.read()
    if not raw:
        raise BadRequest("the request has no body", "send a JSON object")
    try:
        value = _decode_json(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BadRequest(f"the body is not valid JSON: {exc}") from exc
    except RecursionError as exc:
        raise BadRequest("the body is not valid JSON: nested too deep") from exc
    if not isinstance(value, dict):
        raise BadRequest(f"the body must be a JSON object, not {_json_type(value)}")
    return {key: item for key, item in value.items() if item is not None}


def to_struct(data: dict[str, Any], cls: type[T], *, strict: bool = True) -> T:
    """`data` as a `cls`. Refuses what cannot be honoured and what is unknown, by name.

    Not `strict`: numbers and booleans may be strings, as in a form.
    """
    known = [field.encode_name for field in msgspec.structs.fields(cls)]
    for name in data:
        if name in REFUSED:
            raise UnsupportedParameter(f"{name} is not supported: {REFUSED[name]}", f"leave {name} out", param=name)
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "docs/api.md lists the fields"
            raise BadRequest(f"unknown field {name!r}", hint, param=name)
    try:
        return msgspec.convert(data, cls, strict=strict)
    except msgspec.ValidationError as exc:
        raise invalid(exc) from exc
    except RecursionError as exc:
        raise BadRequest("the body is nested too deep") from exc


async def read_struct(request: web.Request, cls: type[T]) -> T:
    return to_struct(await read_object(request), cls)


def invalid(exc: msgspec.ValidationError) -> BadRequest:
    """msgspec's complaint as ours: `temperature: expected float <= 2.0`, param `temperature`."""
    text = str(exc)
    match = _PATH.search(text)
    param = match["path"].lstrip(".").replace("[...]", "") if match else None
    reason = _PATH.sub("", text).replace("`", "")
    missing = re.search(r"missing required field (\w+)", reason)
    if missing:
        param = f"{param}.{missing[1]}" if param else missing[1]
        return BadRequest(f"field {param!r} is required", param=param)
    reason = reason[:1].lower() + reason[1:]
    return BadRequest(f"{param}: {reason}" if param else reason, param=param)


def encoded(value: Any, param: str) -> bytes:
    """Free-form JSON as bytes; BadRequest for what no other process could read, such as integers over 64 bits."""
    try:
        _encode_frame(value)
        return _encode_json(value)
    except (OverflowError, RecursionError) as exc:
        raise BadRequest(f"{param}: a number is out of range, or it is nested too deep", param=param) from exc


def ignored_headers(data: dict[str, Any], others: Iterable[str] = ()) -> dict[str, str]:
    """The response header that names the documented no-ops that were given."""
    given = sorted({*NO_OPS.intersection(data), *others})
    return {IGNORED_HEADER: ", ".join(given)} if given else {}


def json_response(value: Any, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=_encode_json(value), content_type="application/json", charset="utf-8", headers=headers)


def flag(request: web.Request, name: str, default: bool = False) -> bool:
    """A query parameter that is true or false, in the spellings of Python and JavaScript clients."""
    value = request.query.get(name)
    if value is None:
        return default
    match value.lower():
        case "1" | "true" | "yes" | "":
            return True
        case "0" | "false" | "no":
            return False
    raise BadRequest(f"{name} must be true or false, not {value[:80]!r}", param=name)


def count(request: web.Request, name: str, default: int, limit: int) -> int:
    """A query parameter that is a number from 0 to `limit`."""
    value = request.query.get(name)
    if value is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) > limit:
        raise BadRequest(f"{name} must be a number from 0 to {limit}, not {value[:80]!r}", param=name)
    return int(value)


def seconds(request: web.Request, name: str, default: float, *, least: float, most: float) -> float:
    """A query parameter that is a time; one that is too short or long is taken as the nearest that is not."""
    value = request.query.get(name)
    if value is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,3})?", value):
        raise BadRequest(f"{name} must be a number of seconds, not {value[:80]!r}", param=name)
    return min(max(float(value), least), most)


def _json_type(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
