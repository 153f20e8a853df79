"""`xin node`, `xin node stop`, and its door for apps on other hosts."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from xin import config
from xin.cli import arguments, output
from xin.cli.connection import connect
from xin.client import Client
from xin.errors import Unreachable, XinError

app = typer.Typer(rich_markup_mode=None)

STOP_SECONDS = 60.0


@app.callback(invoke_without_command=True)
def node(
    context: typer.Context,
    host: Annotated[
        str | None, typer.Option("--host", "-H", help="Address to listen on; beyond 127.0.0.1 an API key is needed.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option("--api-key", metavar="KEY", help="A key that may do everything (XIN_NODE_API_KEY).")
    ] = None,
    allowed_host: Annotated[
        list[str] | None, typer.Option("--allowed-host", metavar="NAME", help="A name it is addressed by; repeat.")
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="Other hosts reach it over TLS only; xin cert export tells them by what.")
    ] = False,
    tls_cert: Annotated[
        str | None, typer.Option("--tls-cert", metavar="PEM", help="A certificate in place of its own.")
    ] = None,
    tls_key: Annotated[str | None, typer.Option("--tls-key", metavar="PEM", help="The key of --tls-cert.")] = None,
    port: Annotated[int | None, typer.Option("--port", "-p", min=0, max=65535, help="0 = any free one [9997].")] = None,
    name: Annotated[str | None, typer.Option("--name", help="What others call it [the host's name].")] = None,
    private: Annotated[bool, typer.Option("--private", help="Neither announce it nor look for others.")] = False,
    fetch_images: Annotated[
        bool, typer.Option("--fetch-images", help="Fetch images that requests name by URL, from public addresses.")
    ] = False,
    peer: Annotated[
        list[str] | None,
        typer.Option("--peer", metavar="URL", help="A node on this machine, or HOST[:PORT] of a paired one; repeat."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=0, help="CPU threads for all models together.")
    ] = None,
) -> None:
    """Run this machine's node until Ctrl-C. Settings not given come from XIN_NODE_* and config.toml."""
    if context.invoked_subcommand is not None:
        return
    flags = {
        "host": host,
        "port": port,
        "api_key": api_key,
        "tls": tls or None,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "allowed_hosts": allowed_host,
        "name": name,
        "private": private or None,
        "fetch_images": fetch_images or None,
        "peers": peer,
        "threads": threads,
    }
    settings = config.load(flags={"node": flags})
    from xin.node.app import run  # the node's imports are for the node alone

    raise typer.Exit(run(settings))


@app.command()
def stop(endpoint: arguments.Endpoint = None, json: arguments.Json = False) -> None:
    """Stop the node: running answers are finished first. Models launched by hand come back when it starts again."""
    with connect(endpoint) as client:
        info = client.node()
        client.stop()
        _wait_until_gone(client)
    if json:
        output.print_json({"stopped": info.name, "endpoint": info.endpoint})
    else:
        output.say(f"node {info.name} at {client.endpoint} has stopped")


@app.command("open")
def open_door(
    host: Annotated[
        str, typer.Option("--host", "-H", metavar="ADDRESS", help="Where apps reach it; 0.0.0.0: every address.")
    ] = "0.0.0.0",
    tls: Annotated[bool, typer.Option("--tls", help="Over TLS only; xin cert export tells them by what.")] = False,
    allowed_host: Annotated[
        list[str] | None, typer.Option("--allowed-host", metavar="NAME", help="A name it is addressed by; repeat.")
    ] = None,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Let apps on other hosts in, with an API key (xin keys), until xin node close or its end. Nothing restarts."""
    with connect(endpoint) as client:
        info = client.open_door(host, tls=tls, allowed_hosts=allowed_host or [])
    if json:
        output.print_json(info)
        return
    scheme = "https" if info.tls else "http"
    for address in info.addresses:
        shown = f"[{address}]" if ":" in address else address
        print(f"{scheme}://{shown}:{info.port}")
    if not info.addresses:
        output.say("this machine has no address that others could reach; it is open as soon as it has one")
    if info.first_key:
        output.say(f"requests need an API key; this one may do everything and is not shown again: {info.first_key}")


@app.command("close")
def close_door(endpoint: arguments.Endpoint = None, json: arguments.Json = False) -> None:
    """Let no more apps of other hosts in. Answers that run are finished."""
    with connect(endpoint) as client:
        info = client.close_door()
    if json:
        output.print_json(info)
    else:
        output.say("closed: only programs of this machine and paired nodes reach it")


def _wait_until_gone(client: Client) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        try:
            client.health()
        except Unreachable:
            return
        except XinError:
            pass  # it is draining
        time.sleep(0.05)
    raise Unreachable(
        f"the node at {client.endpoint} is still finishing answers", "it ends by itself; xin logs UID tells"
    )
