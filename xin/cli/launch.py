"""`xin launch` and `xin terminate`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import msgspec
import typer

from xin.cli import arguments, output
from xin.cli.connection import at_node, connect, connect_or_start
from xin.cli.launching import wait_until_ready
from xin.errors import UsageError, XinError
from xin.protocol.node import LaunchRequest

app = typer.Typer(rich_markup_mode=None)


@app.command(context_settings=arguments.ENGINE_OPTIONS)
def launch(
    tokens: arguments.ModelAndOptions = None,
    model_name: arguments.ModelName = None,
    size_in_billions: arguments.Size = None,
    model_format: arguments.Format = None,
    quantization: arguments.Quantization = None,
    model_uid: arguments.Uid = None,
    engine: arguments.Engine = None,
    context_length: arguments.ContextLength = None,
    option: arguments.Option = None,
    keep_alive: arguments.KeepAlive = None,
    node: arguments.Node = None,
    endpoint: arguments.Endpoint = None,
    force: Annotated[bool, typer.Option("--force", help="Also when the plan says that it does not fit.")] = False,
    replica: Annotated[
        int, typer.Option("--replica", "-r", min=1, metavar="N", help="Workers of it, spread over the nodes.")
    ] = 1,
    gpu: Annotated[
        str | None, typer.Option("--gpu", metavar="N,N", help="The accelerators that it may use; default: all.")
    ] = None,
    pin: Annotated[bool, typer.Option("--pin", help="Never end it to make room for another model.")] = False,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="NODE,NODE", help="Divide it over these nodes of the cluster.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the model is ready.")] = True,
    json: arguments.Json = False,
) -> None:
    """Launch a model and print its uid.

    MODEL is a name from `xin list --all`, a path to a .gguf file, or org/repo[:file]. Any other --KEY VALUE is an
    option of the engine, for example --n-parallel 4. A node is started if none runs.
    """
    words, options = arguments.split(tokens)
    model = _model(words, model_name)
    options |= arguments.pairs(option)
    if context_length is not None:
        options["context_length"] = context_length
    request = LaunchRequest(
        model_name=arguments.model_of(model),
        model_uid=model_uid,
        model_engine=engine,
        model_size_in_billions=size_in_billions,
        model_format=model_format,
        quantization=quantization,
        keep_alive=keep_alive,
        node=node,
        replica=replica,
        gpu=arguments.numbers(gpu) if gpu is not None else None,
        force=force,
        pin=pin,
        shard=[name.strip() for name in shard.split(",")] if shard is not None else [],
        options=options,
    )
    _launch(request, endpoint=endpoint, wait=wait, json=json)


@app.command()
def terminate(
    uids: Annotated[
        list[str] | None, typer.Argument(metavar="UID...", show_default=False, autocompletion=arguments.complete_uid)
    ] = None,
    model_uid: Annotated[
        list[str] | None, typer.Option("--model-uid", "-u", metavar="UID", help="UID, as an option.")
    ] = None,
    kill: Annotated[bool, typer.Option("--kill", help="Kill their processes, even those that hang.")] = False,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """End running models and free their memory."""
    wanted = [*(uids or ()), *(model_uid or ())]
    if not wanted:
        raise UsageError("no UID given", "xin list shows them")
    failed: list[XinError] = []
    ended: list[str] = []
    with connect(endpoint) as client:
        for uid in wanted:
            try:
                client.terminate(uid, kill=kill)
            except XinError as exc:
                failed.append(exc)
            else:
                ended.append(uid)
                if not json:
                    print(uid, flush=True)
    if json:
        output.print_json({"terminated": ended})
    for error in failed[:-1]:
        output.say(error.message)
    if failed:
        raise failed[-1]


def _model(words: list[str], model_name: str | None) -> str:
    given = [*words, *([model_name] if model_name else [])]
    if len(given) == 1:
        return given[0]
    if not given:
        raise UsageError("no MODEL given", "name it first: xin launch MODEL --key value; xin list --all shows models")
    raise UsageError(f"one MODEL at a time, not {len(given)}: {' '.join(given)}", "write flags as --key=value")


def _launch(request: LaunchRequest, *, endpoint: str | None, wait: bool, json: bool) -> None:
    with connect_or_start(endpoint) as client:
        placed = client.launch_anywhere(request)
        uid = placed.model_uid
        answer: Any = placed
        if placed.reason:
            output.say(f"{uid}: {placed.reason}")
        if wait:
            answer = wait_until_ready(at_node(client, placed.node_id), uid)
            if request.replica > 1:  # joins what it has begun, until all of them are ready
                client.launch(msgspec.structs.replace(request, model_uid=uid))
    if json:
        output.print_json(answer)
    else:
        sys.stdout.write(f"{uid}\n")
