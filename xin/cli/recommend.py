"""`xin recommend`."""

from __future__ import annotations

from typing import Annotated

import typer

from xin.cli import arguments, output
from xin.cli.connection import check_node, connect_or_start
from xin.protocol.node import Recommendation, Recommendations

app = typer.Typer(rich_markup_mode=None)
_HEADERS = ("MODEL", "SIZE", "QUANT", "CONTEXT", "TO FETCH", "NEEDS", "DEVICE", "TOKENS/S", "COMMAND")
_NUMBERS = ("SIZE", "CONTEXT", "TO FETCH", "NEEDS", "TOKENS/S")


@app.command()
def recommend(
    count: Annotated[int, typer.Option("--count", "-c", min=1, max=20, help="How many.")] = 5,
    ability: Annotated[str, typer.Option("--ability", "-a", help="What they must be able to: chat, embed, …")] = "chat",
    node: arguments.Node = None,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Say which models the nodes run well: the largest and newest that fit and answer as fast as one reads.

    TOKENS/S is expected of one stream, from the memory bandwidth that a copy reaches on the node.
    """
    with connect_or_start(endpoint) as client:
        check_node(client, node)
        found = client.recommend(count, ability, here=node is not None)
    if json:
        output.print_json(found)
    else:
        _print(found)


def _print(found: Recommendations) -> None:
    if not found.models:
        output.say("nothing of the catalogue fits this node, or can do that: xin list --all shows what there is")
        return
    output.draw(output.table(_HEADERS, [_line(one, found.node) for one in found.models], right=_NUMBERS))
    for lacking in dict.fromkeys(one.lacking for one in found.models if one.lacking):
        output.say(lacking)
    if found.bytes_per_second:
        output.say(f"memory here: {found.bytes_per_second / 1e9:.1f} GB/s, read and written by a copy")


def _line(one: Recommendation, here: str) -> tuple[str, ...]:
    speed = f"~{one.tokens_per_second:.0f}" if one.tokens_per_second else "-"
    return (
        one.model_name,
        output.billions(one.model_size_in_billions),
        one.quantization,
        str(one.context_length),
        output.size(one.fetch_bytes) if one.fetch_bytes else "here",
        output.size(one.need_bytes),
        one.device_id if one.node in ("", here) else f"{one.node} {one.device_id}",
        speed,
        one.command,
    )
