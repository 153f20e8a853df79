"""OpenAI's bodies of /v1/audio: forms with a file in, transcriptions out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from xin.protocol.openai import ModelName

AudioFormat = Literal["json", "text", "srt", "vtt", "verbose_json"]
Granularity = Literal["word", "segment"]
# What OpenAI's other speech models take, and Whisper cannot give.
AUDIO_REFUSED = {
    "include": "Whisper's log probabilities are in verbose_json's segments",
    "chunking_strategy": "Whisper reads windows of 30 seconds",
    "known_speaker_names": "speakers are not told apart",
    "known_speaker_references": "speakers are not told apart",
    "keywords": "write them into prompt",
    "languages": "give one in language, or none to have it found out",
}


class AudioRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The fields of a form besides `file`; `kwargs` is Xinference's, and must ask for nothing."""

    model: ModelName
    language: Annotated[str, Meta(min_length=2, max_length=16)] | None = None
    prompt: str | None = None
    response_format: AudioFormat = "json"
    temperature: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    timestamp_granularities: list[Granularity] | None = None
    stream: bool = False
    kwargs: str | None = None


class DurationUsage(msgspec.Struct):
    """`seconds` of audio, as OpenAI counts Whisper's use."""

    seconds: int
    type: str = "duration"


class TranscriptionWord(msgspec.Struct):
    """Times in seconds."""

    word: str
    start: float
    end: float


class TranscriptionSegment(msgspec.Struct):
    """Times in seconds; `seek` in steps of 10 ms; probabilities as natural logarithms."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class Transcription(msgspec.Struct, omit_defaults=True):
    """verbose_json: all but `usage` are left out elsewhere. `language`: its ISO 639-1 code; `duration` in seconds."""

    text: str
    usage: DurationUsage | None = None
    task: str = ""
    language: str = ""
    duration: float | None = None
    segments: list[TranscriptionSegment] | None = None
    words: list[TranscriptionWord] | None = None


class TranscriptDelta(msgspec.Struct):
    """An event of a streamed transcription."""

    delta: str
    type: str = "transcript.text.delta"


class TranscriptDone(msgspec.Struct):
    """Its last event, with the whole text."""

    text: str
    usage: DurationUsage | None = None
    type: str = "transcript.text.done"


TranscriptEvent = TranscriptDelta | TranscriptDone


def transcript_event(data: dict[str, Any]) -> TranscriptEvent:
    """Raises msgspec.ValidationError for another kind of event."""
    if data.get("type") == "transcript.text.done":
        return msgspec.convert(data, TranscriptDone)
    return msgspec.convert(data, TranscriptDelta)
