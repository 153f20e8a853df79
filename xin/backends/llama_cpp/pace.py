"""How many tokens one step may hold, so that no running stream waits longer than a set time for its next token."""

from __future__ import annotations

STREAMING_TARGET_S = 0.16  # a step beside running streams
ALONE_TARGET_S = 0.3  # a step that only reads prompts: a cancel or a newcomer waits this long at most
MIN_CHUNK = 4
FLASH_TILE = 64  # ggml's CPU flash attention works on tiles of 64 queries, and row by row on fewer
LONGEST_STEP_S = 0.48
_SMOOTHING = 0.3


class Pace:
    """Seconds per prompt token, measured on the steps themselves (exponential mean)."""

    def __init__(self, first_guess_s: float) -> None:
        self.seconds_per_token = first_guess_s

    def record(self, seconds: float, tokens: int) -> None:
        if tokens >= 2 * MIN_CHUNK:
            self.seconds_per_token += _SMOOTHING * (seconds / tokens - self.seconds_per_token)

    def chunk(self, decoding: int, limit: int) -> int:
        """Prompt tokens for a step beside `decoding` running streams: at least as many, or prompts would starve."""
        target = STREAMING_TARGET_S if decoding else ALONE_TARGET_S
        cost = max(self.seconds_per_token, 1e-7)
        tokens = int(target / cost) - decoding
        if not decoding and tokens < FLASH_TILE and FLASH_TILE * cost <= LONGEST_STEP_S:
            tokens = FLASH_TILE
        return max(MIN_CHUNK, min(max(tokens, decoding), limit - decoding))
