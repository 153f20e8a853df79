"""Where xin keeps things. `XIN_HOME` puts all of it under one folder; else platformdirs decides."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import platformdirs


def config_dir() -> Path:
    return _home("config") or Path(platformdirs.user_config_dir("xin"))


def data_dir() -> Path:
    return _home("data") or Path(platformdirs.user_data_dir("xin"))


def cache_dir() -> Path:
    """Things that can be made again: built wheels, probed headers."""
    return _home("cache") or Path(platformdirs.user_cache_dir("xin"))


def state_dir() -> Path:
    """Logs and the node's desired state."""
    return _home("state") or Path(platformdirs.user_state_dir("xin"))


def runtime_dir() -> Path:
    """0600 files that prove a process of this user, one a running node; gone after a reboot."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs tells of each fallback, in every command
        return _home("run") or Path(platformdirs.user_runtime_dir("xin"))


def config_file() -> Path:
    return config_dir() / "config.toml"


def log_dir() -> Path:
    return state_dir() / "log"


def private(folder: Path) -> Path:
    """Make `folder` (0700) and return it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def write_whole(file: Path, data: bytes) -> None:
    """The whole file or none of it; makes its folder (0700). OSError when it cannot be written."""
    private(file.parent)
    draft = file.with_suffix(".draft")
    draft.write_bytes(data)
    draft.replace(file)


def _home(part: str) -> Path | None:
    home = os.environ.get("XIN_HOME")
    return Path(home).expanduser() / part if home else None
