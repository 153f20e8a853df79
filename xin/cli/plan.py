"""`xin plan`."""

from __future__ import annotations

from collections.abc import Iterator

import typer

from xin.cli import arguments, output
from xin.cli.connection import check_node, connect_or_start
from xin.protocol.node import Plan, PlanCell, PlanRow

app = typer.Typer(rich_markup_mode=None)
_HEADERS = ("MODEL", "QUANT", "WEIGHTS", "KV CACHE", "COMPUTE", "NEEDS", "DEVICE", "FREE", "VERDICT", "CONTEXT", "WHY")
_NUMBERS = ("WEIGHTS", "KV CACHE", "COMPUTE", "NEEDS", "FREE", "CONTEXT")


@app.command(context_settings=arguments.ENGINE_OPTIONS)
def plan(
    tokens: arguments.ModelAndOptions = None,
    model_name: arguments.ModelName = None,
    size_in_billions: arguments.Size = None,
    model_format: arguments.Format = None,
    quantization: arguments.Quantization = None,
    context_length: arguments.ContextLength = None,
    option: arguments.Option = None,
    node: arguments.Node = None,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Say which quantization of a model fits on which device of the node, and the longest context that does.

    MODEL is a name from `xin list --all`, a path to a .gguf file, or org/repo[:file]. Any other --KEY VALUE is an
    option of the engine. Files that are here are counted by llama.cpp itself; `~` marks what formulas tell. CONTEXT is
    the longest that fits.
    """
    words, options = arguments.split(tokens)
    model = arguments.one_model(words, model_name)
    options |= arguments.pairs(option)
    if context_length is not None:
        options["context_length"] = context_length
    with connect_or_start(endpoint) as client:
        check_node(client, node)
        fields = {
            "model_size_in_billions": size_in_billions,
            "model_format": model_format,
            "quantization": quantization,
        }
        made = client.plan(arguments.model_of(model), options, **{k: v for k, v in fields.items() if v is not None})
    if json:
        output.print_json(made)
    else:
        _print(made)


def _print(made: Plan) -> None:
    output.draw(output.table(_HEADERS, (line for row in made.rows for line in _lines(row)), right=_NUMBERS))
    for row in made.rows:
        if row.published:
            typer.echo(f"{row.model_name} {row.quantization}, as published: {row.published}")
    if any(row.estimate for row in made.rows):
        output.say("~ is an estimate by formulas; a file that is here is counted exactly")


def _lines(row: PlanRow) -> Iterator[tuple[str, ...]]:
    """One for each device; what is of the row stands in the first."""
    mark = "~" if row.estimate else ""
    sizes = [row.weights_bytes, row.kv_bytes, row.compute_bytes]
    told = (row.model_name, row.quantization, *(f"{mark}{output.size(size)}" if size else "-" for size in sizes))
    for index, cell in enumerate(row.cells):
        yield (*(told if index == 0 else ("",) * len(told)), *_cell(cell, mark))


def _cell(cell: PlanCell, mark: str) -> tuple[str, ...]:
    need = f"{mark}{output.size(cell.need_bytes)}" if cell.need_bytes else "-"
    context = str(cell.max_context) if cell.max_context and cell.verdict in ("fits", "partial") else "-"
    verdict = {"no_engine": "no engine"}.get(cell.verdict, cell.verdict)
    return need, cell.device_id, output.size(cell.free_bytes), verdict, context, cell.reason
