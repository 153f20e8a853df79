"""The person's own editor and pager, with the terminal handed over to them."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from textual.app import App, SuspendNotSupported

from xin.errors import UsageError


def edit(app: App[Any], text: str) -> str:
    """`text` as the person leaves it in $VISUAL or $EDITOR. Raises UsageError when that cannot be."""
    with _file(text, ".md") as path:
        _run(app, os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi", path)
        edited = path.read_bytes().decode(errors="replace")
    # Editors end the last line, which nobody typed.
    return edited if text.endswith("\n") else edited.removesuffix("\n")


def page(app: App[Any], text: str) -> None:
    """Show `text` in $PAGER. Raises UsageError when that cannot be."""
    with _file(text, ".md") as path:
        _run(app, os.environ.get("PAGER") or "less", path)


@contextlib.contextmanager
def _file(text: str, suffix: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="xin-") as folder:
        path = Path(folder) / f"prompt{suffix}"
        path.write_bytes(text.encode(errors="surrogatepass"))
        yield path


def _run(app: App[Any], command: str, path: Path) -> None:
    try:
        with app.suspend():
            code = subprocess.call([*shlex.split(command), str(path)])
    except SuspendNotSupported as exc:
        raise UsageError("a program cannot take over this terminal", "it can where xin tui runs in a terminal") from exc
    except (OSError, ValueError) as exc:
        raise UsageError(f"{command!r} cannot be run: {exc}", "set EDITOR and PAGER to programs you have") from exc
    if code != 0:
        raise UsageError(f"{command!r} ended with {code}", "set EDITOR and PAGER to programs you have")
