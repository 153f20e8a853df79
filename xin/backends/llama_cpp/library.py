"""llama.cpp itself: imported once, its log on stderr, its last complaints kept for the cause of a failed load."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import llama_cpp

_ERROR = 4  # ggml_log_level
_WARN = 3
_EXPECTED = (
    "n_ctx_seq (",  # one pool for all requests is larger than one window: that is meant
    # a step was interrupted for a request that was cancelled (Context.interrupt)
    "sched_graph_compute_async failed with error 1",
    "compute status: 1",
    "decode: removing memory module entries",
    "failed to decode, ret = 2",
)
_last: deque[str] = deque(maxlen=20)
listeners: list[Callable[[int, str], None]] = []  # called with the level and text of all that llama.cpp logs


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _log(level: int, text: bytes, user_data: Any) -> None:
    line = text.decode("utf-8", "replace").rstrip()
    for listener in listeners:
        listener(level, line)
    if _WARN <= level <= _ERROR and line and not any(words in line for words in _EXPECTED):
        _last.append(line)
        print(f"{'ERROR' if level == _ERROR else 'WARNING'} llama.cpp: {line}", file=sys.stderr, flush=True)


@lru_cache(maxsize=1)
def start() -> None:
    """Initialise the backends once a process."""
    llama_cpp.llama_log_set(_log, None)
    llama_cpp.llama_backend_init()


def callback() -> Any:
    """The log of libraries beside llama.cpp goes the same way."""
    return _log


def last_errors() -> list[str]:
    """The newest warnings and errors, oldest first."""
    return list(_last)
