"""How many tokens the KV cache of a launch holds, and whether its requests share them."""

from __future__ import annotations

POOL_BYTES = 256 * 1024 * 1024  # of a KV pool that all requests share
APART_FROM = 8  # requests
APART_BYTES = 512 * 1024 * 1024  # up to this much, each request has its own
SHORTEST, LONGEST = 512, 1 << 20  # windows that are tried
BITS = {"f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5, "q5_1": 6, "q5_0": 5.5, "q4_1": 5, "q4_0": 4.5, "iq4_nl": 4.5}


def pool(window: int, cell_bytes: int, n_parallel: int, kv_cells: int | None) -> tuple[bool, int]:
    """(is it one pool for all requests, tokens that it holds).

    A pool of its own for each request spares many streams each other's masked cells; one pool for all lets few streams
    and a prompt share one pass.
    """
    apart = n_parallel * window
    affordable = kv_cells is None and apart * cell_bytes <= APART_BYTES
    if affordable and n_parallel >= APART_FROM:
        return False, apart
    most = POOL_BYTES // max(cell_bytes, 1)
    return True, max(kv_cells or min(4 * window, most), window)


def windows(longest: int, cell_bytes: int, n_parallel: int) -> list[int]:
    """Windows up to `longest` between which a launch's bytes grow evenly: powers of two, and where the rule changes."""
    most, apart = POOL_BYTES // max(cell_bytes, 1), APART_BYTES // max(n_parallel * cell_bytes, 1)
    steps = {SHORTEST << power for power in range(20)} | {most // 4, most, apart, apart + 1, longest}
    return sorted(step for step in steps if SHORTEST <= step <= min(longest, LONGEST))
