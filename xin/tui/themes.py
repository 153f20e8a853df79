"""Themes from files: one TOML file each, holding the fields of Textual's Theme and a table of variables.

Ours come with the package; a person's own lie in the folder `themes` beside tui.toml and are read again when saved.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from textual.color import Color, ColorParseError
from textual.theme import Theme

import xin
from xin import paths
from xin.errors import UsageError

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


class ThemeFile(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a theme file may hold; only `primary` must be there. Its name is the file's."""

    primary: str
    secondary: str | None = None
    warning: str | None = None
    error: str | None = None
    success: str | None = None
    accent: str | None = None
    foreground: str | None = None
    background: str | None = None
    surface: str | None = None
    panel: str | None = None
    boost: str | None = None
    dark: bool = True
    luminosity_spread: float = 0.15
    text_alpha: float = 0.95
    ansi: bool = False
    variables: dict[str, str] = {}


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
    """Raises UsageError that names the file and the key."""
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise UsageError(f"{file}: {exc}", "mend the line it names") from exc
    for key, fault in _faults(given):
        raise UsageError(f"{file}: {key}: {fault}", "docs/tui.md lists the keys of a theme")
    theme = msgspec.convert(given, ThemeFile)
    made = Theme(name=file.stem, **msgspec.structs.asdict(theme))
    try:
        made.to_color_system().generate()
    except (ValueError, ColorParseError) as exc:
        raise UsageError(f"{file}: {exc}", "docs/tui.md lists the keys of a theme") from exc
    return made


def _faults(given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    known = set(ThemeFile.__struct_fields__)
    for key, value in given.items():
        if key not in known:
            yield key, "there is no such key"
            continue
        try:
            msgspec.convert({"primary": "#000000", key: value}, ThemeFile)
        except msgspec.ValidationError as exc:
            yield key, str(exc).partition(" - at ")[0]
            continue
        if key in COLORS:
            yield from _color_fault(key, value)
    if "primary" not in given:
        yield "primary", "it must be there"
    for name, value in given.get("variables", {}).items():
        if name.endswith(("foreground", "background", "border", "-blurred")):
            yield from _color_fault(f"variables.{name}", value.partition(" ")[0])


def _color_fault(key: str, value: str) -> Iterator[tuple[str, str]]:
    try:
        Color.parse(value)
    except ColorParseError:
        yield key, f"{value!r} is no colour: write #rrggbb, or ansi_blue for one of the terminal's sixteen"
