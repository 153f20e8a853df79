"""From the tokens that Whisper wrote about a window of audio to segments with times.

Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022: times come as tokens, 0.02 s
apart, in pairs around each segment; the next window begins where the last whole segment ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

SECONDS_A_TIME = 0.02  # between two neighbouring time tokens


@dataclass(frozen=True, slots=True)
class Part:
    """Seconds from the beginning of the window; `tokens` without times."""

    start: float
    end: float
    tokens: list[int]


def parts_of(tokens: Sequence[int], first_time: int, window_seconds: float) -> tuple[list[Part], float]:
    """(segments, how far this window has been written down), seconds. `first_time`: the token that means 0.00."""

    def seconds(token: int) -> float:
        return (token - first_time) * SECONDS_A_TIME

    cuts = [at for at, (left, right) in enumerate(pairwise(tokens), 1) if min(left, right) >= first_time]
    ends_whole = len(tokens) >= 2 and tokens[-1] >= first_time > tokens[-2]
    if not cuts:
        times = [token for token in tokens if token >= first_time]
        told = seconds(times[-1]) if times and times[-1] > first_time else window_seconds
        end = min(told, window_seconds) if ends_whole else window_seconds
        return [Part(0.0, end, _text(tokens, first_time))], window_seconds
    bounds = [0, *cuts, *([len(tokens)] if ends_whole else [])]
    parts = [
        Part(seconds(tokens[left]), seconds(tokens[right - 1]), _text(tokens[left:right], first_time))
        for left, right in pairwise(bounds)
    ]
    return parts, window_seconds if ends_whole else min(seconds(tokens[cuts[-1] - 1]), window_seconds)


def _text(tokens: Sequence[int], first_time: int) -> list[int]:
    return [token for token in tokens if token < first_time]
