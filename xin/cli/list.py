"""`xin list`, when its line is not as plain as xin.cli.entry takes it."""

from __future__ import annotations

from typing import Annotated

import typer

from xin.cli import arguments
from xin.cli.listing import print_list

app = typer.Typer(rich_markup_mode=None)

Everything = Annotated[bool, typer.Option("--all", "-a", help="All models that could be launched.")]
Ability = Annotated[str | None, typer.Option("--ability", metavar="WORD", help="chat, generate, embed, rerank, …")]
Size = Annotated[str | None, typer.Option("--size", metavar="SIZE", help="7, 135M, or 3-8: billions of parameters.")]
Language = Annotated[str | None, typer.Option("--lang", metavar="CODE", help="en, zh, …")]
Fits = Annotated[bool, typer.Option("--fits", help="What fits into the memory of one device of the node.")]
Downloaded = Annotated[bool, typer.Option("--downloaded", help="What is on the node's disk.")]


@app.command("list")
def list_models(
    everything: Everything = False,
    ability: Ability = None,
    size: Size = None,
    language: Language = None,
    fits: Fits = False,
    downloaded: Downloaded = False,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """List running models; with --all, or any filter, the models that could be launched."""
    print_list(
        everything=everything,
        ability=ability,
        size=size,
        language=language,
        fits=fits,
        downloaded=downloaded,
        endpoint=endpoint,
        json=json,
    )
