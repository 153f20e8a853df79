"""`xin tui`: the workbench."""

from __future__ import annotations

from typing import Annotated

import typer

from xin.cli import arguments

app = typer.Typer(rich_markup_mode=None)


@app.command()
def tui(
    endpoint: arguments.Endpoint = None,
    readonly: Annotated[bool, typer.Option("--readonly", help="Look only: nothing is launched or ended.")] = False,
    ascii: Annotated[bool, typer.Option("--ascii", help="Draw with ASCII alone.")] = False,
    theme: Annotated[str | None, typer.Option("--theme", help="A theme by name, for this run.")] = None,
) -> None:
    """Open the workbench: the whole fleet, chats side by side, jobs and logs. F1 tells the keys."""
    from xin.tui.run import run

    raise typer.Exit(run(endpoint, readonly=readonly, ascii=ascii, theme=theme, starter=_start))


def _start(endpoint: str, port: int) -> object:
    from xin.cli import daemon

    return daemon.start(endpoint, port)
