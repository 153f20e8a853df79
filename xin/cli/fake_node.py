"""`xin fake-node`: a node whose models are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xin import config
from xin.errors import UsageError, XinError

app = typer.Typer(rich_markup_mode=None)


@app.command("fake-node")
def fake_node(
    models: Annotated[int, typer.Option("--models", min=0, max=64, help="How many models: fake-1, fake-2, …")] = 3,
    rate: Annotated[float, typer.Option("--rate", min=0, help="Tokens/s of each; 0 = as fast as it goes.")] = 60.0,
    gpus: Annotated[int, typer.Option("--gpus", min=0, max=16, help="How many made-up GPUs.")] = 0,
    die_after: Annotated[
        int | None, typer.Option("--die-after", min=0, metavar="TOKENS", help="The last model's process dies.")
    ] = None,
    stall: Annotated[bool, typer.Option("--stall", help="The last model falls silent in mid-answer.")] = False,
    oom: Annotated[bool, typer.Option("--oom", help="The last model runs out of memory while it loads.")] = False,
    slow: Annotated[
        str | None, typer.Option("--slow", metavar="DURATION", help="First token only after so long: 2s, 500ms.")
    ] = None,
    load: Annotated[
        str | None, typer.Option("--load", metavar="DURATION", help="Loading a model takes so long.")
    ] = None,
    echo: Annotated[bool, typer.Option("--echo", help="Answer with the prompt instead of a made-up text.")] = False,
    answer: Annotated[
        Path | None, typer.Option("--answer", exists=True, dir_okay=False, help="Answer with this file's text.")
    ] = None,
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="0 = any free one.")] = 0,
    name: Annotated[str, typer.Option("--name", help="What others call it.")] = "fake",
    announce: Annotated[bool, typer.Option("--announce", help="Announce it on the network like a real node.")] = False,
) -> None:
    """Run a real node with made-up models (and GPUs), to see and test every state without weights."""
    settings = config.load(flags={"node": {"port": port, "name": name, "private": not announce}})
    from xin.node.fake import STALL_AFTER, Fleet, run  # the node's imports are for the node alone

    fleet = Fleet(
        models=models,
        rate=rate,
        gpus=gpus,
        die_after=die_after,
        stall_after=STALL_AFTER if stall else None,
        oom=oom,
        ttft_ms=_seconds(slow) * 1e3 if slow is not None else 150.0,
        load_seconds=_seconds(load) if load is not None else 0.0,
        echo=echo,
        answer=answer.read_text(encoding="utf-8") if answer else None,
    )
    raise typer.Exit(run(settings, fleet))


def _seconds(text: str) -> float:
    """Seconds; 2s, 500ms and 1m are read too."""
    from xin.node.keep_alive import parse_keep_alive

    try:
        if text.endswith("ms"):
            return float(text[:-2]) / 1e3
        return max(parse_keep_alive(text) or 0.0, 0.0)
    except (ValueError, XinError) as exc:
        raise UsageError(f"{text!r} is not a duration", "write 2s, 500ms or 1m") from exc
