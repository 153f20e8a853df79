"""`python -m xin.installer NAME [--build] [--ACCELERATOR]`: one installation, told as JSON lines for the node.

Whoever starts this has agreed to a compile.
"""

from __future__ import annotations

import re
import sys
from typing import cast, get_args

import msgspec

from xin.errors import XinError
from xin.installer.install import install
from xin.installer.recipes import Accelerator, recipe

_LONGEST_LINE = 4000
_encode = msgspec.json.Encoder().encode
_FRACTION = re.compile(r"^compiling, (?:(\d+) of (\d+)|(\d+) %)$")


def main(name: str, *flags: str) -> int:
    """The exit code. The last line has `done` or `error`."""
    wanted = [flag.removeprefix("--") for flag in flags if flag != "--build"]
    accelerator = cast("Accelerator | None", next((flag for flag in wanted if flag in get_args(Accelerator)), None))
    try:
        _say(stage="find")
        installed = install(
            name,
            build="--build" in flags,
            accelerator=accelerator,
            confirm=lambda question: True,
            report=lambda step: _report(step, recipe(name).compiled),
            on_line=lambda line: _say(log=line[:_LONGEST_LINE]),
        )
    except XinError as exc:
        _say(error=exc.message, hint=exc.hint, code=exc.code)
        return 1
    for note in installed.notes:
        _say(log=note)
    _say(done=f"{installed.name} {installed.version} ({installed.how})")
    return 0


def stage_of(step: str, compiled: bool) -> str:
    """The stage of the job that a step belongs to. A compile may have pip install its tools first: still `find`."""
    if step.startswith(("compiling", "Building wheel")):
        return "build"
    last = "installing" if compiled else "Installing"
    return "install" if step.startswith(last) else "find"


def _report(step: str, compiled: bool) -> None:
    found = _FRACTION.match(step)
    fraction = None
    if found:
        fraction = int(found[3]) / 100 if found[3] else int(found[1]) / max(int(found[2]), 1)
    _say(stage=stage_of(step, compiled), detail=step, progress=fraction)


def _say(**word: object) -> None:
    sys.stdout.buffer.write(_encode({key: value for key, value in word.items() if value is not None}) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
