"""What a person sets for the workbench in tui.toml, and what the workbench remembers of its last run."""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from xin import paths

DEFAULT_THEME = "xin-dark"
STARTS = ("bench", "chat", "jobs", "logs", "last")
_WORDS: dict[type, str] = {str: "a text in quotes", bool: "true or false", dict: "a table"}
_THEME_LINE = re.compile(r"^theme\s*=.*$", re.MULTILINE)
_FIRST_TABLE = re.compile(r"^\s*\[", re.MULTILINE)


@dataclass(slots=True, frozen=True)
class TuiSettings:
    """tui.toml.

    theme       name of a theme: one of xin's, of Textual's, or the name of a file in the themes folder
    ascii       draw with ASCII alone
    confirm     ask before something that runs is ended, and before leaving
    start       the place to open on: bench, chat, jobs, logs, or last for where the last run ended
    keymap      keys by the id of what they do: "place.2" = "f6"; several with commas between
    """

    theme: str = DEFAULT_THEME
    ascii: bool = False
    confirm: bool = True
    start: str = "bench"
    keymap: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Loaded:
    """The settings, and for each that could not be taken its file, key and fault."""

    settings: TuiSettings
    faults: list[str] = field(default_factory=list)


def settings_file() -> Path:
    return paths.config_dir() / "tui.toml"


def load(file: Path | None = None) -> Loaded:
    """A wrong key costs only itself; a file that is not TOML counts as empty. Nothing is raised."""
    file = file or settings_file()
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Loaded(TuiSettings())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        return Loaded(TuiSettings(), [f"{file}: {exc}"])
    kept: dict[str, Any] = {}
    faults = []
    for key, value in given.items():
        fault = _fault(key, value)
        if fault:
            faults.append(f"{file}: {key}: {fault}")
        else:
            kept[key] = value
    return Loaded(TuiSettings(**kept), faults)


def save_theme(name: str, file: Path | None = None) -> None:
    """Set `theme` in tui.toml and leave every other line as it is. OSError when it cannot be written."""
    file = file or settings_file()
    line = f'theme = "{name}"'
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    table = _FIRST_TABLE.search(text)
    head, rest = (text[: table.start()], text[table.start() :]) if table else (text, "")
    head = _THEME_LINE.sub(lambda _: line, head, count=1) if _THEME_LINE.search(head) else f"{line}\n{head}"
    paths.write_whole(file, (head + rest).encode())


@dataclass(slots=True)
class Remembered:
    """What the last run left: the place, and in each place the id of the widget that had the focus."""

    place: str = ""
    focus: dict[str, str] = field(default_factory=dict)


def remembered() -> Remembered:
    try:
        given = json.loads(_state_file().read_bytes())
        return Remembered(str(given["place"]), {str(place): str(focus) for place, focus in given["focus"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Remembered()


def remember(state: Remembered) -> None:
    """Written whole or not at all; a full disk costs only the memory."""
    with contextlib.suppress(OSError):
        paths.write_whole(_state_file(), json.dumps(asdict(state)).encode())


def _state_file() -> Path:
    return paths.state_dir() / "tui.json"


def _fault(key: str, value: object) -> str:
    """What is wrong with a setting, or nothing."""
    kinds = {"theme": str, "ascii": bool, "confirm": bool, "start": str, "keymap": dict}
    if key not in kinds:
        return "there is no such setting"
    if not isinstance(value, kinds[key]):
        return f"it must be {_WORDS[kinds[key]]}"
    if isinstance(value, dict):
        return next((f"{name} must be {_WORDS[str]}" for name, keys in value.items() if not isinstance(keys, str)), "")
    if key == "start" and value not in STARTS:
        return f"it must be one of {', '.join(STARTS)}"
    return ""
