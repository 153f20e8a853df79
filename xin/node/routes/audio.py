"""POST /v1/audio/transcriptions and /v1/audio/translations."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence

import msgspec
from aiohttp import web

from xin.errors import BadRequest, UnsupportedParameter
from xin.node.keys import MANAGER
from xin.node.routes import subtitles
from xin.node.routes.body import json_response, to_struct
from xin.node.routes.event_stream import event_stream
from xin.node.routes.form import Form, read_form
from xin.node.routes.generation import Generations, generating
from xin.protocol import sse
from xin.protocol.audio import (
    AUDIO_REFUSED,
    AudioRequest,
    DurationUsage,
    Granularity,
    TranscriptDelta,
    TranscriptDone,
    Transcription,
    TranscriptionSegment,
    TranscriptionWord,
)
from xin.worker.frames import Delta, Segment, Speech, Transcribe

MAX_FILE_BYTES = 25 * 2**20  # as OpenAI
STREAMED = ("json", "text")
_LISTED = "timestamp_granularities"
_encode = msgspec.json.Encoder().encode


async def transcribe(request: web.Request) -> web.StreamResponse:
    """What was said, in its own language."""
    return await _answer(request, "transcribe")


async def translate(request: web.Request) -> web.StreamResponse:
    """What was said, in English."""
    return await _answer(request, "translate")


async def _answer(request: web.Request, task: str) -> web.StreamResponse:
    form = await read_form(request)
    body = _body(form)
    frame = _frame(form, body, task)
    async with (
        request.app[MANAGER].lease(body.model) as lease,
        generating(lease.handle, [frame]) as running,
    ):
        if body.stream:
            return await _streamed(request, running)
        return _whole(body, task, [speech async for speech in _heard(running)])


def _body(form: Form) -> AudioRequest:
    for name in form.fields:
        if name in AUDIO_REFUSED:
            raise UnsupportedParameter(f"{name} is not supported: {AUDIO_REFUSED[name]}", "leave it out", param=name)
    fields = {name: value for name, value in form.fields.items() if value != ""}  # as null in JSON
    if isinstance(fields.get(_LISTED), str):
        fields[_LISTED] = [fields[_LISTED]]
    body = to_struct(fields, AudioRequest, strict=False)
    if body.kwargs not in (None, "{}"):
        raise BadRequest("kwargs: no further keywords are known", "leave them out", param="kwargs")
    if body.stream and body.response_format not in STREAMED:
        raise BadRequest(
            f"response_format {body.response_format} cannot be streamed", "ask for json", param="response_format"
        )
    if body.timestamp_granularities and body.response_format != "verbose_json":
        raise BadRequest(
            f"timestamp_granularities needs response_format verbose_json, not {body.response_format}",
            "change one of them",
            param="timestamp_granularities",
        )
    return body


def _frame(form: Form, body: AudioRequest, task: str) -> Transcribe:
    if not form.file:
        raise BadRequest("file is missing" if form.file is None else "file is empty", "send the audio", param="file")
    if len(form.file) > MAX_FILE_BYTES:
        size = len(form.file) / 2**20
        message = f"file has {size:.1f} MiB, more than {MAX_FILE_BYTES >> 20}"
        raise BadRequest(message, "compress it, or send it in parts", param="file")
    words = "word" in (body.timestamp_granularities or ())
    return Transcribe(0, form.file, task, body.language, body.prompt, body.temperature, words)


def _whole(body: AudioRequest, task: str, news: list[Speech]) -> web.Response:
    segments = [speech.segment for speech in news if speech.segment is not None]
    match body.response_format:
        case "text":
            return _plain(_text(segments) + "\n", "text/plain")
        case "srt":
            return _plain(subtitles.srt(segments), "application/x-subrip")
        case "vtt":
            return _plain(subtitles.vtt(segments), "text/vtt")
        case "verbose_json":
            granularities = body.timestamp_granularities or ["segment"]
            return json_response(_verbose(task, news[0], segments, granularities))
    return json_response(Transcription(_text(segments), _usage(news[0])))


async def _streamed(request: web.Request, running: Generations) -> web.StreamResponse:
    await running.begin()
    async with event_stream(request) as stream:
        segments: list[Segment] = []
        usage: DurationUsage | None = None
        async for speech in _heard(running):
            usage = _usage(speech)
            if speech.segment is not None:
                text = speech.segment.text if segments else speech.segment.text.lstrip()
                segments.append(speech.segment)
                await stream.write(sse.encode(_encode(TranscriptDelta(text))))
        await stream.write(sse.encode(_encode(TranscriptDone(_text(segments), usage))))
    return stream.response


async def _heard(running: Generations) -> AsyncIterator[Speech]:
    """What is known of the audio first, then its segments."""
    while True:
        _, batch = await running.next_batch()
        if not batch:
            return
        for item in batch:
            if isinstance(item, Delta) and item.speech is not None:
                yield item.speech


def _text(segments: list[Segment]) -> str:
    return "".join(segment.text for segment in segments).strip()


def _usage(speech: Speech) -> DurationUsage:
    return DurationUsage(math.ceil(speech.duration))


def _verbose(task: str, speech: Speech, segments: list[Segment], granularities: Sequence[Granularity]) -> Transcription:
    made = Transcription(_text(segments), _usage(speech), task, speech.language, speech.duration)
    if "segment" in granularities:
        made.segments = [_segment(i, segment) for i, segment in enumerate(segments)]
    if "word" in granularities:
        words = [word for segment in segments for word in segment.words or []]
        made.words = [TranscriptionWord(word.text, word.start, word.end) for word in words]
    return made


def _segment(index: int, one: Segment) -> TranscriptionSegment:
    return TranscriptionSegment(
        index,
        one.seek,
        one.start,
        one.end,
        one.text,
        one.tokens,
        one.temperature,
        one.avg_logprob,
        one.compression_ratio,
        one.no_speech_prob,
    )


def _plain(text: str, content_type: str) -> web.Response:
    return web.Response(text=text, content_type=content_type, charset="utf-8")
