"""Themes from files: one TOML file each, holding the fields of Textual's Theme and a table of variables.

Ours come with the package; a person's own lie in the folder `themes` beside tui.toml and are read again when saved.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from textual.color import Color, ColorParseError
from textual.theme import Theme

import xin
from xin import paths

COLORS = (
    "primary",
    "secondary",
    "warning",
    "error",
    "success",
    "accent",
    "foreground",
    "background",
    "surface",
    "panel",
    "boost",
)
_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "dark": (bool, "true or false"),
    "ansi": (bool, "true or false"),
    "luminosity_spread": ((int, float), "a number"),
    "text_alpha": ((int, float), "a number"),
    "variables": (dict, "a table"),
}


class ThemeFault(ValueError):
    """A theme file cannot be used; its text names the file and the key."""


def own_folder() -> Path:
    """Where ours are: in the installed package, else beside it in a checkout."""
    package = Path(xin.__file__).parent
    inside = package / "themes"
    return inside if inside.is_dir() else package.parent / "themes"


def user_folder() -> Path:
    return paths.config_dir() / "themes"


def files() -> dict[str, Path]:
    """Each theme's file by its name; a person's own goes before ours of the same name."""
    return {file.stem: file for folder in (own_folder(), user_folder()) for file in sorted(folder.glob("*.toml"))}


def stamps(extra: Path) -> dict[Path, int]:
    """When each of the person's files was last written, and `extra`: what differs has been saved."""
    found = {}
    for file in [*user_folder().glob("*.toml"), extra]:
        try:
            found[file] = file.stat().st_mtime_ns
        except OSError:
            continue
    return found


def read(file: Path) -> Theme:
    """The theme in a file, whose name is the file's. Raises ThemeFault."""
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ThemeFault(f"{file}: {exc}") from exc
    for key, fault in _faults(given):
        raise ThemeFault(f"{file}: {key}: {fault}")
    theme = Theme(name=file.stem, **given)
    try:
        theme.to_color_system().generate()
    except (ValueError, ColorParseError) as exc:
        raise ThemeFault(f"{file}: {exc}") from exc
    return theme


def _faults(given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in given.items():
        if key in COLORS:
            yield from _color_fault(key, value)
        elif key not in _KINDS:
            yield key, "there is no such key"
        elif not isinstance(value, _KINDS[key][0]):
            yield key, f"it must be {_KINDS[key][1]}"
        elif key == "variables":
            yield from _variable_faults(cast(dict[str, Any], value))
    if "primary" not in given:
        yield "primary", "it must be there"


def _variable_faults(variables: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in variables.items():
        if not isinstance(value, str):
            yield f"variables.{name}", "it must be a text in quotes"
        elif name.endswith(("foreground", "background", "border", "-blurred")):
            yield from _color_fault(f"variables.{name}", value.partition(" ")[0])


def _color_fault(key: str, value: object) -> Iterator[tuple[str, str]]:
    try:
        Color.parse(str(value))
    except ColorParseError:
        yield key, f"{value!r} is no colour: write #rrggbb, or ansi_blue for one of the terminal's sixteen"
