"""`xin list`."""

from __future__ import annotations

from typing import Annotated

import typer

from xin.cli import arguments, output
from xin.cli.connection import connect
from xin.protocol.node import Instance, LocalModel

app = typer.Typer(rich_markup_mode=None)


@app.command("list")
def list_models(
    everything: Annotated[bool, typer.Option("--all", "-a", help="All models that can be launched here.")] = False,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """List running models, or with --all every model that this node can launch."""
    with connect(endpoint) as client:
        if everything:
            models = client.local_models()
            return output.print_json(models) if json else _print_models(models)
        instances = client.instances()
    return output.print_json(instances) if json else _print_instances(instances)


def _print_instances(instances: list[Instance]) -> None:
    if not instances:
        output.say("no model is running; launch one: xin launch MODEL (xin list --all shows which)")
        return
    headers = ("UID", "NAME", "SIZE", "FORMAT", "QUANT", "STATE", "MEMORY")
    rows = [
        (
            one.model_uid,
            one.model_name,
            output.billions(one.model_size_in_billions),
            one.model_format,
            one.quantization,
            one.state if one.state != "loading" else f"loading {one.progress:.0%}",
            output.size(one.worker.rss_bytes or sum(one.memory_bytes.values())),
        )
        for one in instances
    ]
    output.draw(output.table(headers, rows, right=("SIZE", "MEMORY")))
    for one in instances:
        if one.cause:
            output.say(output.one_line(f"{one.model_uid}: {one.cause}"))


def _print_models(models: list[LocalModel]) -> None:
    headers = ("NAME", "SIZE", "FORMAT", "QUANT", "LANGUAGES", "ABILITIES", "FROM")
    rows = [
        (
            one.model_name,
            output.billions(one.model_size_in_billions),
            one.model_format,
            one.quantization,
            ", ".join(one.model_lang) or "-",
            ", ".join(one.model_ability) or "-",
            one.source,
        )
        for one in models
    ]
    output.draw(output.table(headers, rows, right=("SIZE",)))
