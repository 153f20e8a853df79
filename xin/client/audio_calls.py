"""Calls that send a recording, as a form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import httpx
import msgspec

from xin.client.exchange import Call, Request, Stream, error_of, exchange, reader
from xin.client.request import Json
from xin.errors import BadRequest
from xin.protocol.audio import TranscriptEvent, Transcription, transcript_event

Task = Literal["transcriptions", "translations"]
_ORDER = ("language", "prompt", "response_format", "temperature", "timestamp_granularities")


def transcribe(model: str, audio: bytes, *, task: Task = "transcriptions", **fields: Any) -> Call[Transcription]:
    """What was said. `fields` are those of OpenAI's form; `response_format` json (the default) or verbose_json."""
    return exchange(_request(model, audio, task, fields), reader(Transcription))


def transcribe_text(model: str, audio: bytes, *, task: Task = "transcriptions", **fields: Any) -> Call[str]:
    """As `transcribe`, for `response_format` text, srt and vtt."""
    return exchange(_request(model, audio, task, {"response_format": "text", **fields}), bytes.decode)


def transcribe_stream(
    model: str, audio: bytes, *, task: Task = "transcriptions", **fields: Any
) -> Stream[TranscriptEvent]:
    """The text as it is understood, and at last the whole of it."""
    return Stream(_request(model, audio, task, {**fields, "stream": True}), _event)


def handle_transcriptions(model_uid: str, /, audio: bytes, *args: Any, **fields: Any) -> Call[Any]:
    """In Xinference's order: language, prompt, response_format, temperature, timestamp_granularities.

    Gives a dict, or a text for the formats that are none.
    """
    return _handled(model_uid, audio, "transcriptions", args, fields)


def handle_translations(model_uid: str, /, audio: bytes, *args: Any, **fields: Any) -> Call[Any]:
    """As `handle_transcriptions`, into English."""
    return _handled(model_uid, audio, "translations", args, fields)


def _handled(model_uid: str, audio: bytes, task: Task, args: Sequence[Any], fields: Json) -> Call[Any]:
    if len(args) > len(_ORDER):
        raise BadRequest(f"{len(args) + 1} arguments are too many", f"audio, then {', '.join(_ORDER)}")
    given = dict(zip(_ORDER, args, strict=False))
    if twice := given.keys() & fields.keys():
        raise BadRequest(f"{min(twice)} is given twice", "give it once", param=min(twice))
    return exchange(_request(model_uid, audio, task, {**given, **fields}), _dict_or_text)


def _request(model: str, audio: bytes, task: Task, fields: Json) -> Request:
    """A recording takes as long as it takes, so nothing here times out."""
    data: dict[str, Any] = {"model": model}
    for name, value in fields.items():
        if isinstance(value, list | tuple):
            data[f"{name}[]"] = list(value)
        elif value is not None:
            data[name] = str(value).lower() if isinstance(value, bool) else str(value)
    path = f"/v1/audio/{task}"
    form = httpx.Request("POST", f"http://node{path}", data=data, files={"file": ("audio", audio)})
    return Request("POST", path, body=form.read(), content_type=form.headers["content-type"], timeout=None)


def _dict_or_text(body: bytes) -> Any:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode()
    return found if isinstance(found, dict) else body.decode()


def _event(data: bytes) -> TranscriptEvent:
    found: Json = msgspec.json.decode(data)
    if "error" in found and (error := error_of(data, 500)) is not None:
        raise error
    return transcript_event(found)
