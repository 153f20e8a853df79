"""`xin show`."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from xin.cli import arguments, output
from xin.cli.connection import connect
from xin.errors import ModelNotFound
from xin.protocol.node import CatalogueEntry, CatalogueModel, Instance, LocalModel

app = typer.Typer(rich_markup_mode=None)


@app.command()
def show(
    model: Annotated[str, typer.Argument(metavar="MODEL", autocompletion=arguments.complete_any_model)],
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Show all that is known of a model: its weights, and its running launches. MODEL is a name or a uid."""
    name = arguments.model_of(model)
    family_name = name.partition(":")[0]
    with connect(endpoint) as client:
        running = [one for one in client.instances() if name in (one.model_uid, one.model_name, *one.weights)]
        names = {name, *(one.model_name for one in running)}
        local = client.local_models()
        known = [one for one in local if one.model_name in names or name in one.weights]
        catalogue = client.catalogue()
        described = next((one for one in catalogue if _is(one, family_name)), None)
        engines = {one.name: one.installed for one in client.node().engines}
    if described and name == described.model_name:
        known = [one for one in local if one.model_name.partition(":")[0] == name]
    if not running and not known and not described:
        close = difflib.get_close_matches(name, [one.model_name for one in catalogue], n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "xin list --all shows those that there are"
        raise ModelNotFound(f"there is no model {model!r} here", hint)
    if json:
        output.print_json({"models": known, "catalogue": described, "instances": running})
        return
    if described:
        _print(_family_lines(described))
        _print_entries(described, engines)
    for one in known:
        _print(_here_lines(one) if described else _model_lines(one))
    for instance in running:
        _print(_instance_lines(instance))


def _is(one: CatalogueModel, name: str) -> bool:
    return one.model_name == name and one.origin != "found"


def _print(lines: Iterator[tuple[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, value in lines:
        if value not in (None, "", "-"):
            grid.add_row(Text(name, style="dim"), Text(output.printable(str(value))))
    output.draw(grid)
    print()


def _family_lines(one: CatalogueModel) -> Iterator[tuple[str, Any]]:
    yield "model", one.model_name
    yield "about", one.description
    yield "languages", ", ".join(one.model_lang)
    yield "abilities", ", ".join(one.model_ability)
    yield "context length", one.context_length or None
    yield "prompt style", _prompt_style(one)
    yield "sampling", ", ".join(f"{key}={value:g}" for key, value in one.sampling.items())
    yield "chat model", one.chat_sibling
    yield "registered", "by the user" if one.origin == "registered" else None
    for i, note in enumerate(one.notes):
        yield "" if i else "notes", note


def _prompt_style(one: CatalogueModel) -> str | None:
    if one.prompt_style is None:
        return "the weights' own chat template" if "chat" in one.model_ability else None
    stops = [repr(stop) for stop in one.prompt_style.get("stop") or []]
    ids = [str(token) for token in one.prompt_style.get("stop_token_ids") or []]
    told = [f"stops at {', '.join(stops)}"] if stops else []
    told += [f"stop tokens {', '.join(ids)}"] if ids else []
    return "; ".join([one.prompt_style["style_name"], *told])


def _print_entries(model: CatalogueModel, engines: dict[str, bool]) -> None:
    """What can be had of it. Marks: * is on this machine."""
    headers = ("FORMAT", "SIZE", "ENGINE", "QUANTIZATIONS", "FROM")
    rows = [
        (
            entry.model_format,
            output.billions(entry.model_size_in_billions),
            entry.model_engine + ("" if engines.get(entry.model_engine) else " (not installed)"),
            ", ".join(f"{one}*" if one in entry.here else one for one in entry.quantizations),
            _origin(entry),
        )
        for entry in model.entries
    ]
    output.draw(output.table(headers, rows, right=("SIZE",)))
    if any(entry.here for entry in model.entries):
        print("* is on this machine")
    print()


def _origin(entry: CatalogueEntry) -> str:
    marks = ["unverified"] * entry.unverified + ["runs code of its repository"] * entry.remote_code
    revision = f"@{entry.revision[:8]}" if entry.revision not in ("", "main") else ""
    return f"{entry.repo or entry.source}{revision}" + (f" ({', '.join(marks)})" if marks else "")


def _here_lines(one: LocalModel) -> Iterator[tuple[str, Any]]:
    yield "launched as", one.model_name
    yield "weights", "\n".join(one.weights)
    yield "on disk", output.size(one.size_bytes)


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
