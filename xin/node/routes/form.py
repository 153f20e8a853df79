"""A form with a file (multipart/form-data), and its fields as a struct: every fault is a 400 that names the field."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass, field
from typing import Any

from aiohttp import hdrs, web

from xin.errors import BadRequest
from xin.node.guard import FORM as FORM

MOST_FIELDS = 64
_READ_BYTES = 1 << 20


@dataclass(slots=True)
class Form:
    """`fields` by name, those that end in [] as lists; `file` is what was sent under that name."""

    fields: dict[str, Any] = field(default_factory=dict)
    file: bytes | None = None


async def read_form(request: web.Request) -> Form:
    """Taken apart in a thread, since a recording may be large."""
    return await asyncio.to_thread(form_of, await request.read(), request.headers.get(hdrs.CONTENT_TYPE, ""))


def form_of(body: bytes, content_type: str) -> Form:
    """Raises BadRequest for what is no form, a field twice, or another file than `file`."""
    from python_multipart import parse_form
    from python_multipart.exceptions import FormParserError

    form, files = Form(), dict[str, bytes]()

    def take_field(one: Any) -> None:
        name, value = _text(one.field_name, "a field's name"), _text(one.value, "a field")
        if len(form.fields) >= MOST_FIELDS:
            raise BadRequest(f"the form has over {MOST_FIELDS} fields")
        if name.endswith("[]"):
            form.fields.setdefault(name[:-2], []).append(value)
        elif name in form.fields:
            raise BadRequest(f"{name} is given twice", "send it once", param=name)
        else:
            form.fields[name] = value

    def take_file(one: Any) -> None:
        name = _text(one.field_name, "a file's name")
        if name != "file" or files:
            raise BadRequest(f"{name}: one file is expected, under the name file", param=name)
        one.file_object.seek(0)
        files[name] = one.file_object.read()

    headers = {"Content-Type": content_type.encode("latin-1", "replace")}
    try:
        parse_form(headers, io.BytesIO(body), take_field, take_file, chunk_size=_READ_BYTES)
    except FormParserError as exc:
        raise BadRequest(f"the body is not a valid form: {exc}", "send multipart/form-data") from exc
    form.file = files.get("file")
    return form


def _text(value: bytes | None, what: str) -> str:
    try:
        return (value or b"").decode()
    except UnicodeDecodeError as exc:
        raise BadRequest(f"{what} is not UTF-8") from exc
