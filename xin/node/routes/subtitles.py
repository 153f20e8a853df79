"""Segments as SubRip (.srt) and WebVTT (.vtt) files."""

from __future__ import annotations

from collections.abc import Sequence

from xin.worker.frames import Segment


def srt(segments: Sequence[Segment]) -> str:
    parts = [
        f"{i}\n{_time(one.start, ',')} --> {_time(one.end, ',')}\n{_line(one)}\n\n" for i, one in enumerate(segments, 1)
    ]
    return "".join(parts)


def vtt(segments: Sequence[Segment]) -> str:
    parts = [f"{_time(one.start, '.')} --> {_time(one.end, '.')}\n{_line(one)}\n\n" for one in segments]
    return "WEBVTT\n\n" + "".join(parts)


def _line(segment: Segment) -> str:
    """Its text on one line, without the arrow that would be read as times."""
    return " ".join(segment.text.split()).replace("-->", "->")


def _time(seconds: float, point: str) -> str:
    """hh:mm:ss and milliseconds."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02d}:{minute:02d}:{second:02d}{point}{milliseconds:03d}"
