"""How many prompt tokens one step may read, so that no running stream waits longer than a set time."""

from __future__ import annotations

STREAMING_TARGET_S = 0.16  # beside running streams
ALONE_TARGET_S = 0.3  # when nothing else runs: a cancel or a newcomer waits this long at most
FEWEST = 16
USUAL = 64  # a pass of so many costs little more than one of a few: the weights are read once
LONGEST_STEP_S = 0.4
_SMOOTHING = 0.3


class Pace:
    """Seconds per prompt token, measured on the steps themselves (exponential mean)."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seconds_per_token = 0.004

    def record(self, seconds: float, tokens: int) -> None:
        if tokens >= FEWEST:
            self._seconds_per_token += _SMOOTHING * (seconds / tokens - self._seconds_per_token)

    def seconds(self, tokens: int) -> float:
        return self._seconds_per_token * tokens

    def chunk(self, streaming: bool) -> int:
        target = STREAMING_TARGET_S if streaming else ALONE_TARGET_S
        fewest = USUAL if self.seconds(USUAL) <= LONGEST_STEP_S else FEWEST
        return max(1, min(max(fewest, int(target / max(self._seconds_per_token, 1e-7))), self._most))
