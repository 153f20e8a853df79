"""`xin cert`: what apps on other hosts know this node by."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from xin.cli import arguments, output
from xin.cli.connection import connect
from xin.errors import NotFound, UsageError
from xin.protocol.trust import ServerCertificate

app = typer.Typer(rich_markup_mode=None)
group = typer.Typer(
    help="The certificate of a node that was started with --tls.", invoke_without_command=True, rich_markup_mode=None
)
app.add_typer(group, name="cert")


@group.callback(invoke_without_command=True)
def cert(context: typer.Context, endpoint: arguments.Endpoint = None, json: arguments.Json = False) -> None:
    """Show what the node's certificate is for, when it ends, and its fingerprint (xin node --tls)."""
    if context.invoked_subcommand is not None:
        return
    told = _certificate(endpoint)
    if json:
        output.print_json(told)
        return
    ends = time.strftime("%Y-%m-%d", time.localtime(told.ends_at))
    print(f"for {', '.join(told.hosts)}\ngood until {ends}\nSHA-256 {told.fingerprint}")


@group.command()
def export(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Where to write it [standard output].")] = None,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Print the authority that apps on other hosts must trust to talk to this node (PEM). It holds no secret."""
    told = _certificate(endpoint)
    if json:
        output.print_json(told)
        return
    if not told.authority:
        raise NotFound("this node's certificate was given to it", "export the authority that made it")
    if file is None:
        print(told.authority, end="")
    else:
        try:
            file.write_text(told.authority, encoding="ascii")
        except OSError as exc:
            raise UsageError(f"cannot write {file}: {exc.strerror}", "name another file", param="file") from exc
    name = file or "node.pem"
    output.say(f"for {', '.join(told.hosts)}")
    output.say(f"there: XIN_CLIENT_CA={name} xin list -e https://HOST:PORT; curl --cacert {name}; SSL_CERT_FILE={name}")


def _certificate(endpoint: str | None) -> ServerCertificate:
    with connect(endpoint) as client:
        return client.certificate()
