"""`xin files` and `xin rm`: the weights on this machine."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from xin.cli import arguments, output
from xin.cli.connection import connect
from xin.errors import Conflict, UsageError
from xin.protocol.node import FilesRemoved, WeightFile, WeightFiles

app = typer.Typer(rich_markup_mode=None)
_SHOWN_SIDES = 8


@app.command()
def files(endpoint: arguments.Endpoint = None, json: arguments.Json = False) -> None:
    """List every weight file on this machine, its size, and who uses it; what is shared counts once."""
    with connect(endpoint) as client:
        found = client.files()
    return output.print_json(found) if json else _print_files(found)


@app.command("rm")
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME_OR_PATH", autocompletion=arguments.complete_model)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    foreign: Annotated[bool, typer.Option("--foreign", help="Also other programs' files, and model_dirs.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")] = False,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Remove a model's weights: shows what goes and what stays, then asks."""
    name = arguments.model_of(name)
    with connect(endpoint) as client:
        planned = client.remove_files(name, foreign=foreign, dry_run=True)
        if not json:
            _print_plan(planned)
        if not dry_run:
            _check_something(planned)
            if not yes and not _agreed(planned):
                return
            done = client.remove_files(name, foreign=foreign)
            if not json:
                output.say(f"removed; {output.size(done.freed_bytes)} are free")
            planned = done
    if json:
        output.print_json(planned)


def _check_something(planned: FilesRemoved) -> None:
    if not planned.removed:
        why = f"{planned.kept[0].path}: {planned.kept[0].reason}" if planned.kept else None
        raise Conflict(f"nothing of {planned.name} can be removed", why)


def _agreed(planned: FilesRemoved) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to ask", "add --yes to remove without asking")
    return typer.confirm(f"Remove {len(planned.removed)} files and free {output.size(planned.freed_bytes)}?", err=True)


def _print_plan(planned: FilesRemoved) -> None:
    for path in planned.removed[:_SHOWN_SIDES]:
        output.say(f"goes   {output.one_line(path)}")
    if (more := len(planned.removed) - _SHOWN_SIDES) > 0:
        output.say(f"goes   and {more} more")
    for kept in planned.kept:
        output.say(f"stays  {output.one_line(f'{kept.path}: {kept.reason}')}")


def _print_files(found: WeightFiles) -> None:
    headers = ("SIZE", "FROM", "MODELS", "USED BY", "PATH")
    output.draw(output.table(headers, [_row(one) for one in found.files], right=("SIZE",)))
    output.say(f"{len(found.files)} files, {output.size(found.total_bytes)}")


def _row(one: WeightFile) -> tuple[str, ...]:
    return (
        output.size(one.size_bytes),
        ", ".join(one.sources),
        ", ".join(one.model_names) or "-",
        ", ".join(one.used_by) or "-",
        one.path if len(one.paths) == 1 else f"{one.path} (+{len(one.paths) - 1})",
    )
