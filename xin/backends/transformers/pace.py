"""How many prompt tokens one step may read, so that no running stream waits longer than a set time."""

from __future__ import annotations

STREAMING_TARGET_S = 0.16  # beside running streams
LONGEST_GAP_S = (
    0.42  # a running stream waits for such a slice and for its own pass: together at most so long, if it can be
)
ALONE_TARGET_S = 0.3  # when nothing else runs: a cancel or a newcomer waits this long at most
BURST_TARGET_S = 0.6  # for several prompts that came together: read in one pass, they are done sooner
FEWEST = 16
_SMOOTHING = 0.3


class Pace:
    """A pass takes a time of its own, since all weights are read, and some for each token. Both are measured on the
    steps themselves (exponential means); a decode shows the first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.pass_seconds = 0.0
        self._seconds_per_token = 0.002

    def record_decode(self, seconds: float) -> None:
        if not self.pass_seconds:
            self.pass_seconds = seconds
        self.pass_seconds += _SMOOTHING * (seconds - self.pass_seconds)

    def record(self, seconds: float, tokens: int) -> None:
        if tokens >= FEWEST:
            of_tokens = max(seconds - self.pass_seconds, seconds / 10) / tokens
            self._seconds_per_token += _SMOOTHING * (of_tokens - self._seconds_per_token)

    def seconds(self, tokens: int) -> float:
        """To read so many, in one pass."""
        return self.pass_seconds + self._seconds_per_token * tokens

    def chunk(self, target: float, *, beside: bool = False) -> int:
        """Where a pass alone takes longer than the target, smaller slices would only mean more of them: then a third to
        a half of a slice's time is for its tokens, by how long those `beside` would wait.
        """
        passes = self.pass_seconds
        room = max(target - passes, passes)
        if beside:
            room = max(min(room, LONGEST_GAP_S - 2 * passes), passes / 2)
        return min(max(FEWEST, int(room / max(self._seconds_per_token, 1e-7))), self._most)
