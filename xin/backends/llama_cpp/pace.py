"""How many tokens one step may hold, so that no running stream waits longer than a set time for its next token."""

from __future__ import annotations

STREAMING_LIMIT_S = 0.212  # nearly every step beside running streams ends within this
STREAMING_LEAST_S = 0.15  # what such a step aims at on the most restless machine: prompts must get on too
ALONE_TARGET_S = 0.3  # a step that only reads prompts: a cancel or a newcomer waits this long at most
MIN_CHUNK = 4
FLASH_TILE = 64  # ggml's CPU flash attention works on tiles of 64 queries, and row by row on fewer
LONGEST_STEP_S = 0.48
FIRST_BESIDE = 1.4  # what a token costs beside streams over alone, before any such step was measured
_SMOOTHING = 0.3
_DEVIATION_SMOOTHING = 0.15
_DEVIATIONS = 3.0


class Pace:
    """Seconds per prompt token, measured on the steps themselves: their exponential mean and mean deviation.

    A step beside running streams is as long as fits the limit with three deviations to spare, as TCP sets its
    retransmission timer: on a quiet machine prompts are read faster, on a restless one the streams still get on. Such
    steps are smaller, cost more per token, and are counted by themselves.
    """

    def __init__(self, first_guess_s: float) -> None:
        self._alone = _Cost(first_guess_s)
        self._beside: _Cost | None = None
        self._streams = 0  # of the step that chunk() was asked for last

    @property
    def seconds_per_token(self) -> float:
        return self._alone.mean

    def record(self, seconds: float, tokens: int) -> None:
        """The step that chunk() was asked for took so long."""
        if tokens < 2 * MIN_CHUNK:
            return
        if self._streams:
            self._beside = self._beside or _Cost(self._alone.mean * FIRST_BESIDE)
        (self._beside if self._beside and self._streams else self._alone).record(seconds / tokens)

    def chunk(self, decoding: int, limit: int) -> int:
        """Prompt tokens for a step beside `decoding` running streams: at least as many, or prompts would starve."""
        self._streams = decoding
        if decoding:
            cost = self._beside or _Cost(self._alone.mean * FIRST_BESIDE)
            target = max(STREAMING_LIMIT_S / (1 + _DEVIATIONS * cost.deviation / cost.mean), STREAMING_LEAST_S)
            tokens = int(target / cost.mean) - decoding
        else:
            cost = self._alone
            tokens = int(ALONE_TARGET_S / cost.mean)
            if tokens < FLASH_TILE and FLASH_TILE * cost.mean <= LONGEST_STEP_S:
                tokens = FLASH_TILE
        return max(MIN_CHUNK, min(max(tokens, decoding), limit - decoding))


class _Cost:
    """Of one token, in seconds."""

    def __init__(self, first_guess_s: float) -> None:
        self.mean = max(first_guess_s, 1e-7)
        self.deviation = self.mean / 16

    def record(self, seconds: float) -> None:
        error = seconds - self.mean
        self.mean = max(self.mean + _SMOOTHING * error, 1e-7)
        self.deviation += _DEVIATION_SMOOTHING * (abs(error) - self.deviation)
