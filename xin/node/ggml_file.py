"""A file of chatglm.cpp on disk by its first bytes; all else in it is only ever read in a worker."""

from __future__ import annotations

from pathlib import Path

FORMAT, ENGINE = "ggml", "chatglm.cpp"
_MAGIC = b"ggml"


def is_ggml(path: Path) -> bool:
    """False for what is missing too. Blocking."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False
