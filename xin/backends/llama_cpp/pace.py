"""How many tokens one step may hold, so that no running stream waits longer than a set time for its next token."""

from __future__ import annotations

STREAMING_LIMIT_S = 0.212  # nearly every step beside running streams ends within this
STREAMING_LEAST_S = 0.15  # what such a step aims at on the most restless machine: prompts must get on too
ALONE_TARGET_S = 0.3  # a step that only reads prompts: a cancel or a newcomer waits this long at most
MIN_CHUNK = 4
FLASH_TILE = 64  # ggml's CPU flash attention works on tiles of 64 queries, and row by row on fewer
LONGEST_STEP_S = 2.0  # for a whole tile, where tokens are dear; a cancel ends such a step in the middle
FIRST_BESIDE = 1.4  # what a prompt token costs beside streams over alone, before any such step was measured
READER_SHARE = 4  # a prompt that the reader reads gets so many times the streams' time …
READER_LIMIT_S = 0.16  # … as far as they get a token each within this
_SMOOTHING = 0.3
_DEVIATION_SMOOTHING = 0.15
_DEVIATIONS = 3.0
_FIRST_DEVIATION = 1 / 16
_LEAST_COST = 1e-7


class Pace:
    """What steps cost, measured on the steps themselves: prompt tokens alone, streams alone, prompt tokens beside them.

    A step beside running streams is as long as fits the limit with three mean deviations of such steps to spare, as
    TCP sets its retransmission timer: on a quiet machine prompts are read faster, on a restless one the streams still
    get on. The streams' part is counted by itself, or short steps would seem dear and get ever shorter.
    """

    def __init__(self, first_guess_s: float) -> None:
        self._alone = max(first_guess_s, _LEAST_COST)  # of one prompt token, as the next
        self._beside: float | None = None
        self._streams: dict[int, float] = {}  # of a step that decodes so many streams and reads nothing
        self._between: float | None = None  # of the others' steps while the reader works
        self._deviation = _FIRST_DEVIATION  # of steps that do both: the share by which they missed what was expected

    @property
    def seconds_per_token(self) -> float:
        return self._alone

    def record(self, seconds: float, streams: int, prompt: int) -> None:
        """A step decoded one token for each of so many streams and read so many prompt tokens."""
        if not prompt:
            self._streams[streams] = _smooth(self._streams.get(streams, seconds), seconds)
        elif streams:
            each, decoding = self._each, self._decoding(streams)
            missed = min(abs(seconds / (decoding + each * prompt) - 1), 1.0)
            self._deviation += _DEVIATION_SMOOTHING * (missed - self._deviation)
            self._beside = _smooth(each, max((seconds - decoding) / prompt, _LEAST_COST))
        elif prompt >= 2 * MIN_CHUNK:
            self._alone = _smooth(self._alone, max(seconds / prompt, _LEAST_COST))

    def chunk(self, streams: int, limit: int, share: float = 1.0) -> int:
        """Prompt tokens for a step beside so many running streams: at least as many, or prompts would starve.

        `share`: of the time that such a step may take.
        """
        if streams:
            target = share * max(STREAMING_LIMIT_S / (1 + _DEVIATIONS * self._deviation), STREAMING_LEAST_S)
            tokens = int((target - self._decoding(streams)) / self._each)
        else:
            tokens = int(ALONE_TARGET_S / self._alone)
            if tokens < FLASH_TILE:
                tokens = min(FLASH_TILE, int(LONGEST_STEP_S / self._alone))
        return max(MIN_CHUNK, min(max(tokens, streams), limit - streams))

    def pause(self, took: float) -> float:
        """Seconds that the reader may go on for, after a step of the others that took so long."""
        self._between = took if self._between is None else _smooth(self._between, took)
        return max(min(READER_SHARE * self._between, READER_LIMIT_S - self._between), self._between / 2)

    @property
    def _each(self) -> float:
        """Seconds that one more prompt token adds to a step of streams."""
        return self._alone * FIRST_BESIDE if self._beside is None else self._beside

    def _decoding(self, streams: int) -> float:
        """Seconds of a step that decodes so many streams; from the nearest number of them that was seen."""
        if not self._streams:
            return streams * self._alone
        nearest = min(self._streams, key=lambda seen: abs(seen - streams))
        return self._streams[nearest] * streams / nearest


def _smooth(mean: float, seen: float) -> float:
    return mean + _SMOOTHING * (seen - mean)
