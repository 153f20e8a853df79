"""How many tokens one step may hold, so that no running stream waits longer than a set time for its next token."""

from __future__ import annotations

STREAMING_TARGET_S = 0.18  # a step beside running streams
ALONE_TARGET_S = 0.35  # a step that only reads prompts: a cancel or a newcomer waits this long at most
MIN_CHUNK = 4
_SMOOTHING = 0.3


class Pace:
    """Seconds per prompt token, measured on the steps themselves (exponential mean)."""

    def __init__(self, first_guess_s: float) -> None:
        self.seconds_per_token = first_guess_s

    def record(self, seconds: float, tokens: int) -> None:
        if tokens >= 2 * MIN_CHUNK:
            self.seconds_per_token += _SMOOTHING * (seconds / tokens - self.seconds_per_token)

    def chunk(self, decoding: int, limit: int) -> int:
        """Prompt tokens for a step beside `decoding` running streams."""
        target = STREAMING_TARGET_S if decoding else ALONE_TARGET_S
        tokens = int(target / max(self.seconds_per_token, 1e-7)) - decoding
        return max(MIN_CHUNK, min(tokens, limit - decoding))
