"""The person's own editor and pager, with the terminal handed over to them."""

from __future__ import annotations

import asyncio
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


async def edit(app: App[Any], text: str) -> str:
    """`text` as the person leaves it in $VISUAL or $EDITOR. Raises UsageError when that cannot be."""
    with _file(text) as path:
        await _run(app, os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi", path)
        edited = path.read_bytes().decode(errors="replace")
    # Editors end the last line, which nobody typed.
    return edited if text.endswith("\n") else edited.removesuffix("\n")


async def page(app: App[Any], text: str) -> None:
    """Show `text` in $PAGER. Raises UsageError when that cannot be."""
    with _file(text) as path:
        await _run(app, os.environ.get("PAGER") or "less", path)


@contextlib.contextmanager
def _file(text: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="xin-") as folder:
        path = Path(folder) / "prompt.md"
        path.write_bytes(text.encode(errors="surrogatepass"))
        yield path


async def _run(app: App[Any], command: str, path: Path) -> None:
    """Nothing is painted meanwhile, but answers go on streaming and nodes go on being heard."""
    failure: Exception | None = None
    code = 0
    try:
        with app.batch_update(), app.suspend():
            try:
                code = await asyncio.to_thread(subprocess.call, [*shlex.split(command), str(path)])
            except (OSError, ValueError) as exc:  # inside: what leaves `suspend` by an exception leaves it suspended
                failure = exc
    except SuspendNotSupported as exc:
        raise UsageError("a program cannot take over this terminal", "it can where xin tui runs in a terminal") from exc
    if failure is not None:
        raise UsageError(f"{command!r} cannot be run: {failure}", SETTING_HINT) from failure
    if code != 0:
        raise UsageError(f"{command!r} ended with {code}", SETTING_HINT)


SETTING_HINT = "set EDITOR and PAGER to programs you have"
