"""From a file of audio as somebody sent it to samples: FFmpeg's decoders, by PyAV."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from xin.errors import BadRequest

RATE = 16_000  # samples a second, as Whisper was trained
# Containers that hold what they play. Playlists and the like name other files and addresses, which FFmpeg would open.
CONTAINERS = "wav,w64,aiff,caf,au,flac,mp3,aac,ogg,amr,ac3,matroska,webm,mov,mp4,m4a,3gp,asf,avi,mpeg,mpegts"
_LONGER = "send it in parts, or launch with a higher longest_audio"
log = logging.getLogger("xin.audio")


def decoded(data: bytes, longest_seconds: float, longer: str = _LONGER) -> Any:
    """Samples as a float32 array in [-1, 1], one channel. BadRequest (param file) for what is no audio, or too long.

    `longer`: what to do with a longer one.
    """
    try:
        with av.open(io.BytesIO(data), mode="r", options=_LIMITS, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise BadRequest("file holds no audio", _HINT, param="file")
            samples = _samples(_frames(container), longest_seconds, longer)
    except FFmpegError as exc:
        raise BadRequest(f"file cannot be read as audio: {exc.strerror or exc}", _HINT, param="file") from exc
    if not samples.size:
        raise BadRequest("file holds no audio that can be decoded", _HINT, param="file")
    return samples


def _samples(frames: Iterator[Any], longest_seconds: float, longer: str) -> Any:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    parts: list[Any] = []
    left = int(longest_seconds * RATE)
    for frame in frames:
        for resampled in resampler.resample(frame):
            part = resampled.to_ndarray().reshape(-1)
            left -= part.size
            if left < 0:
                minutes = longest_seconds / 60
                raise BadRequest(
                    f"file is longer than {minutes:g} minutes",
                    longer,
                    param="file",
                )
            parts.append(part)
    return np.concatenate(parts).astype(np.float32) / 32768 if parts else np.zeros(0, np.float32)


def _frames(container: Any) -> Iterator[Any]:
    """Of its first audio stream, and None at the end. Broken packets are skipped, as players do, and counted."""
    broken = 0
    for packet in container.demux(container.streams.audio[0]):
        try:
            frames = packet.decode()
        except FFmpegError:
            broken += 1
            continue
        for frame in frames:
            frame.pts = None  # times that a file has wrong are of no use to the resampler
            yield frame
    if broken:
        log.warning("%d packets of the audio are broken and were left out", broken)
    yield None


_LIMITS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
_HINT = "send wav, flac, mp3, m4a, ogg, webm or mp4"
