"""Python code that comes with a model's weights: refused, unless the launch names the repository and the commit."""

from __future__ import annotations

import json
import re
from pathlib import Path

from xin.errors import BadRequest

_MAX_CONFIG_BYTES = 1 << 20
_SNAPSHOT = re.compile(r"models--(.+?)--(.+)/snapshots/([0-9a-f]+)")
_CONFIGS = ("config.json", "tokenizer_config.json", "processor_config.json")


def check_remote_code(folder: Path, trusted: str | None) -> bool:
    """Whether the folder's own code may run. BadRequest when it has some that nobody allowed."""
    if not _has_code(folder):
        return False
    found = _SNAPSHOT.search(folder.resolve().as_posix())
    here = f"{found[1]}/{found[2]}@{found[3]}" if found else ""
    if trusted and trusted == here:
        return True
    if trusted and not here:
        raise BadRequest(
            f"{folder} is no snapshot of a repository, so that its commit is not known",
            "fetch it by its name, org/repo",
            param="trust_remote_code",
        )
    if trusted:
        raise BadRequest(f"{trusted} is not what is loaded: that is {here}", param="trust_remote_code")
    raise BadRequest(
        f"{here or folder.name} brings Python code of its own, which would run with all of your rights",
        f"read it, then launch with --trust-remote-code {here or 'REPO@COMMIT'}; or choose a GGUF of it",
        param="trust_remote_code",
    )


def _has_code(folder: Path) -> bool:
    return any(_names_code(folder / name) for name in _CONFIGS)


def _names_code(file: Path) -> bool:
    """Whether an `auto_map` stands in it: transformers would import what that names."""
    try:
        with file.open("rb") as opened:
            data = json.loads(opened.read(_MAX_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and bool(data.get("auto_map"))
