"""`xin doctor`."""

from __future__ import annotations

from typing import Any

import typer

from xin.cli import arguments, output
from xin.cli.connection import connect
from xin.errors import Unreachable
from xin.protocol.doctor import Check, Checkup

app = typer.Typer(rich_markup_mode=None)

SIGNS = {"ok": "ok", "warn": "WARN", "fail": "FAIL"}


@app.command()
def doctor(endpoint: arguments.Endpoint = None, json: arguments.Json = False) -> None:
    """Look at node, engines, disks, network and cluster, and say what to do. Exits with 1 when something fails."""
    checkup = _ask(endpoint)
    if json:
        output.print_json(checkup)
    else:
        output.draw(_table(checkup.checks))
    if any(check.state == "fail" for check in checkup.checks):
        raise typer.Exit(1)


def _ask(endpoint: str | None) -> Checkup:
    """Of the node; of this machine alone where none answers."""
    try:
        with connect(endpoint) as client:
            return client.doctor()
    except Unreachable as exc:
        from xin.node.doctor import of_machine

        hint = exc.hint or "start one with xin node"
        missing = Check(name="node", state="fail", message=exc.message, hint=hint)
        return Checkup(checks=[missing, *of_machine()])


def _table(checks: list[Check]) -> Any:
    rows = []
    for check in checks:
        rows.append((SIGNS[check.state], check.name, check.message))
        if check.hint:
            rows.append(("", "", f"→ {check.hint}"))
    return output.table(("STATE", "WHAT", "FOUND"), rows)
