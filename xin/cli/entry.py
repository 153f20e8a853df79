"""The `xin` program. `xin tui` and a plain `xin list` go straight there: few flags must not cost half a start."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_Names = Mapping[str, str]

_TUI_FLAGS = {"--readonly": "readonly", "--ascii": "ascii"}
_TUI_VALUES = {"-e": "endpoint", "--endpoint": "endpoint", "--theme": "theme"}
_LIST_FLAGS = {
    "-a": "everything",
    "--all": "everything",
    "--fits": "fits",
    "--downloaded": "downloaded",
    "--json": "json",
}
_LIST_VALUES = {
    "-e": "endpoint",
    "--endpoint": "endpoint",
    "--ability": "ability",
    "--size": "size",
    "--lang": "language",
}


def main() -> None:
    """Exits with the command's code."""
    for settings_of, run in ((workbench_settings, _workbench), (listing_settings, _list)):
        settings = settings_of(sys.argv[1:])
        if settings is not None:
            sys.exit(_told(run, settings))
    from xin.cli.main import main as commands

    commands()


def workbench_settings(arguments: Sequence[str]) -> dict[str, Any] | None:
    """The settings of a plain `xin tui`; None for all else, mistakes and --help too, which the commands answer."""
    return _settings("tui", arguments, _TUI_FLAGS, _TUI_VALUES)


def listing_settings(arguments: Sequence[str]) -> dict[str, Any] | None:
    """As workbench_settings, of a plain `xin list`."""
    return _settings("list", arguments, _LIST_FLAGS, _LIST_VALUES)


def _settings(command: str, arguments: Sequence[str], flags: _Names, with_value: _Names) -> dict[str, Any] | None:
    if list(arguments[:1]) != [command]:
        return None
    settings: dict[str, Any] = {}
    waiting = list(arguments[1:])
    while waiting:
        name, has_value, value = waiting.pop(0).partition("=")
        if name in flags and not has_value:
            settings[flags[name]] = True
        elif name in with_value and (has_value or (waiting and not waiting[0].startswith("-"))):
            settings[with_value[name]] = value if has_value else waiting.pop(0)
        else:
            return None
    return settings


def _told(run: Callable[[dict[str, Any]], int], settings: dict[str, Any]) -> int:
    """The exit code of `run`; its errors are told as those of any command."""
    from xin.errors import XinError

    try:
        return run(settings)
    except XinError as exc:
        from xin.cli.main import report

        report(exc)
        return exc.exit_code


def _workbench(settings: dict[str, Any]) -> int:
    from xin.tui.run import run

    return run(starter=_start, **settings)


def _list(settings: dict[str, Any]) -> int:
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # see xin.cli.main
    from xin.cli.listing import print_list

    try:
        print_list(**settings)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read it has had enough; what is left must not be written at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _start(endpoint: str, port: int) -> object:
    from xin.cli import daemon

    return daemon.start(endpoint, port)
