"""How many tokens one step may hold, so that no running stream waits longer than a set time for its next token."""

from __future__ import annotations

STREAMING_LIMIT_S = 0.212  # nearly every step beside running streams ends within this
STREAMING_LEAST_S = 0.15  # what such a step aims at on the most restless machine: prompts must get on too
ALONE_TARGET_S = 0.3  # a step that only reads prompts: a cancel or a newcomer waits this long at most
MIN_CHUNK = 4
FLASH_TILE = 64  # ggml's CPU flash attention works on tiles of 64 queries, and row by row on fewer
LONGEST_STEP_S = 0.48
_SMOOTHING = 0.3
_DEVIATION_SMOOTHING = 0.15
_DEVIATIONS = 3.0


class Pace:
    """Seconds per prompt token, measured on the steps themselves: their exponential mean and mean deviation.

    A step beside running streams is as long as fits the limit with three deviations to spare, as TCP sets its
    retransmission timer: on a quiet machine prompts are read faster, on a restless one the streams still get on.
    """

    def __init__(self, first_guess_s: float) -> None:
        self.seconds_per_token = first_guess_s
        self._deviation = first_guess_s / 16

    def record(self, seconds: float, tokens: int) -> None:
        if tokens < 2 * MIN_CHUNK:
            return
        error = seconds / tokens - self.seconds_per_token
        self.seconds_per_token += _SMOOTHING * error
        self._deviation += _DEVIATION_SMOOTHING * (abs(error) - self._deviation)

    def chunk(self, decoding: int, limit: int) -> int:
        """Prompt tokens for a step beside `decoding` running streams: at least as many, or prompts would starve."""
        cost = max(self.seconds_per_token, 1e-7)
        target = max(STREAMING_LIMIT_S / (1 + _DEVIATIONS * self._deviation / cost), STREAMING_LEAST_S)
        tokens = int((target if decoding else ALONE_TARGET_S) / cost) - decoding
        if not decoding and tokens < FLASH_TILE and FLASH_TILE * cost <= LONGEST_STEP_S:
            tokens = FLASH_TILE
        return max(MIN_CHUNK, min(max(tokens, decoding), limit - decoding))
