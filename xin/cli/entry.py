"""The `xin` program. `xin tui` goes straight to the workbench: reading its few flags must not cost half its start."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

_FLAGS = {"--readonly", "--ascii"}
_WITH_VALUE = {"-e": "endpoint", "--endpoint": "endpoint", "--theme": "theme"}


def main() -> None:
    """Exits with the command's code."""
    settings = workbench_settings(sys.argv[1:])
    if settings is None:
        from xin.cli.main import main as commands

        commands()
    else:
        sys.exit(_workbench(settings))


def workbench_settings(arguments: Sequence[str]) -> dict[str, Any] | None:
    """The settings of a plain `xin tui`; None for all else, mistakes and --help too, which the commands answer."""
    if list(arguments[:1]) != ["tui"]:
        return None
    settings: dict[str, Any] = {}
    waiting = list(arguments[1:])
    while waiting:
        name, has_value, value = waiting.pop(0).partition("=")
        if name in _FLAGS and not has_value:
            settings[name[2:]] = True
        elif name in _WITH_VALUE and (has_value or (waiting and not waiting[0].startswith("-"))):
            settings[_WITH_VALUE[name]] = value if has_value else waiting.pop(0)
        else:
            return None
    return settings


def _workbench(settings: dict[str, Any]) -> int:
    from xin.errors import XinError
    from xin.tui.run import run

    try:
        return run(starter=_start, **settings)
    except XinError as exc:
        from xin.cli.main import report

        report(exc)
        return exc.exit_code


def _start(endpoint: str, port: int) -> object:
    from xin.cli import daemon

    return daemon.start(endpoint, port)
