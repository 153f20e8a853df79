"""What `xin list` prints. Without the command-line library, which takes longer to load than all of this."""

from __future__ import annotations

from xin.cli import catalogue, output
from xin.cli.connection import connect
from xin.cli.plain_table import plain_table
from xin.protocol.node import CatalogueModel, Instance


def print_list(
    *,
    everything: bool = False,
    ability: str | None = None,
    size: str | None = None,
    language: str | None = None,
    fits: bool = False,
    downloaded: bool = False,
    endpoint: str | None = None,
    json: bool = False,
) -> None:
    """Running models; with `everything`, or any filter, the models that could be launched."""
    sizes = catalogue.sizes_of(size) if size else None
    with connect(endpoint) as client:
        if everything or ability or sizes or language or fits or downloaded:
            room = catalogue.roomiest(client.node().devices) if fits else None
            models = catalogue.Wanted(ability, sizes, language, room, downloaded).of(client.catalogue())
            return output.print_json(models) if json else _print_models(models, fits)
        instances = client.instances()
    return output.print_json(instances) if json else _print_instances(instances)


def _print_instances(instances: list[Instance]) -> None:
    if not instances:
        output.say("no model is running; launch one: xin launch MODEL (xin list --all shows which)")
        return
    headers = ("UID", "NAME", "SIZE", "FORMAT", "QUANT", "STATE", "MEMORY", "REQUESTS")
    rows = [
        (
            one.model_uid,
            one.model_name,
            output.billions(one.model_size_in_billions),
            one.model_format,
            one.quantization,
            one.state if one.state != "loading" else f"loading {one.progress:.0%}",
            output.size(one.worker.rss_bytes or sum(one.memory_bytes.values())),
            str(one.stats.running + one.stats.waiting),
        )
        for one in instances
    ]
    plain_table(headers, rows, right=("SIZE", "MEMORY", "REQUESTS"))
    for one in instances:
        if one.shards:
            output.say(f"{one.model_uid}: " + ", ".join(f"{part.layers} layers on {part.node}" for part in one.shards))
        if one.cause:
            output.say(output.one_line(f"{one.model_uid}: {one.cause}"))


def _print_models(models: list[CatalogueModel], fits: bool) -> None:
    if not models:
        output.say("no model is like that; xin list --all shows every one")
        return
    headers = ["NAME", "SIZE", "LANGUAGES", "ABILITIES", "CONTEXT", "HERE"]
    rows = [catalogue.row(model) for model in models]
    if fits:
        headers.append("BEST THAT FITS")
        rows = [(*row, catalogue.best_fit(model)) for row, model in zip(rows, models, strict=True)]
    plain_table(headers, rows, right=("CONTEXT",))
