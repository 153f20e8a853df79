"""Engines, found through the entry-point group `xin.engines`; the built-in ones use the same door."""

from __future__ import annotations

import importlib.util
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from xin.errors import EngineMissing, UsageError

if TYPE_CHECKING:
    from xin.backends.base import Engine

GROUP = "xin.engines"


def engine_names() -> list[str]:
    return sorted({point.name for point in entry_points(group=GROUP)})


def engine_class(name: str) -> type[Engine]:
    """The engine's class; imports its module, which must not import what it `requires`."""
    for point in entry_points(group=GROUP):
        if point.name == name:
            found: type[Engine] = point.load()
            return found
    known = ", ".join(engine_names()) or "none"
    raise UsageError(f"unknown engine {name!r}", f"known engines: {known}", param="model_engine")


def missing(cls: type[Engine]) -> list[str]:
    """The packages that the engine requires and this environment lacks."""
    return [package for package in cls.requires if importlib.util.find_spec(package) is None]


def require(name: str) -> type[Engine]:
    """The engine's class, or EngineMissing with the line that installs it."""
    cls = engine_class(name)
    if lacking := missing(cls):
        raise EngineMissing(f"engine {name} needs {', '.join(lacking)}", f"xin engines install {name}")
    return cls
