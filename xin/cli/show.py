"""`xin show`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from xin.cli import arguments, output
from xin.cli.connection import connect
from xin.errors import ModelNotFound
from xin.protocol.node import Instance, LocalModel

app = typer.Typer(rich_markup_mode=None)


@app.command()
def show(
    model: Annotated[str, typer.Argument(metavar="MODEL", autocompletion=arguments.complete_model)],
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Show all that is known of a model: its weights, and its running launches. MODEL is a name or a uid."""
    name = arguments.model_of(model)
    with connect(endpoint) as client:
        running = [one for one in client.instances() if name in (one.model_uid, one.model_name, *one.weights)]
        names = {name, *(one.model_name for one in running)}
        known = [one for one in client.local_models() if one.model_name in names or name in one.weights]
    if not running and not known:
        raise ModelNotFound(f"there is no model {model!r} here", "xin list --all shows the models that are here")
    if json:
        output.print_json({"models": known, "instances": running})
        return
    for one in known:
        _print(_model_lines(one))
    for instance in running:
        _print(_instance_lines(instance))


def _print(lines: Iterator[tuple[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, value in lines:
        if value not in (None, "", "-"):
            grid.add_row(Text(name, style="dim"), Text(output.printable(str(value))))
    output.draw(grid)
    print()


def _model_lines(one: LocalModel) -> Iterator[tuple[str, Any]]:
    yield "model", one.model_name
    yield "about", one.description
    yield "size", output.billions(one.model_size_in_billions)
    yield "format", f"{one.model_format} {one.quantization}"
    yield "engine", one.model_engine
    yield "abilities", ", ".join(one.model_ability)
    yield "languages", ", ".join(one.model_lang)
    yield "context length", one.context_length or None
    yield "weights", "\n".join(one.weights)
    yield "on disk", output.size(one.size_bytes)
    yield "from", one.source


def _instance_lines(one: Instance) -> Iterator[tuple[str, Any]]:
    yield "uid", one.model_uid
    yield "state", f"{one.state} {one.progress:.0%}" if one.state in ("downloading", "loading") else one.state
    yield "cause", one.cause
    yield "hint", one.hint
    yield "model", one.model_name
    yield "engine", one.model_engine
    yield "context length", one.context_length or None
    yield "parallel", one.n_parallel
    yield "options", ", ".join(f"{key}={value}" for key, value in one.options.items())
    yield "loaded in", output.seconds(one.load_seconds) if one.load_seconds else None
    yield "ready since", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.ready_at)) if one.ready_at else None
    yield "process", one.worker.pid
    yield "memory", output.size(one.worker.rss_bytes or sum(one.memory_bytes.values()))
    yield "requests", f"{one.stats.requests_total} ({one.stats.running} running, {one.stats.waiting} waiting)"
    yield "tokens", one.stats.tokens_total
    yield "notes", "\n".join(one.notes)
