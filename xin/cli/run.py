"""`xin run`."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Annotated

import typer

from xin.cli import arguments, output
from xin.cli.answer import Answer
from xin.cli.connection import check_node, connect_or_start
from xin.cli.conversation import Conversation
from xin.cli.launching import wait_until_ready
from xin.cli.repl import converse
from xin.client import Client
from xin.errors import UsageError
from xin.protocol.node import Instance, LaunchRequest

app = typer.Typer(rich_markup_mode=None)


@app.command(context_settings=arguments.ENGINE_OPTIONS)
def run(
    tokens: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL [PROMPT] [--KEY VALUE]...", show_default=False, autocompletion=arguments.complete_any_model
        ),
    ] = None,
    model_name: arguments.ModelName = None,
    size_in_billions: arguments.Size = None,
    model_format: arguments.Format = None,
    quantization: arguments.Quantization = None,
    engine: arguments.Engine = None,
    context_length: arguments.ContextLength = None,
    option: arguments.Option = None,
    node: arguments.Node = None,
    system: arguments.System = None,
    temperature: arguments.Temperature = None,
    top_p: arguments.TopP = None,
    max_tokens: arguments.MaxTokens = None,
    seed: arguments.Seed = None,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Ask a model and stream its answer; launch it first if it does not run, until it is idle for some minutes.

    MODEL is also the uid of a running model. Text piped in is added to the prompt. Without a prompt, on a terminal,
    this is a conversation. Ctrl-C stops the answer.
    """
    words, options = arguments.split(tokens)
    if model_name:
        words.insert(0, model_name)
    if not words:
        raise UsageError("no MODEL given", "xin run MODEL PROMPT; xin list --all shows models")
    prompt = arguments.prompt_of(words[1:])
    options |= arguments.pairs(option)
    if context_length is not None:
        options["context_length"] = context_length
    request = LaunchRequest(
        model_name=arguments.model_of(words[0]),
        model_engine=engine,
        model_size_in_billions=size_in_billions,
        model_format=model_format,
        quantization=quantization,
        options=options,
    )
    fields = arguments.sampling(temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed)
    with connect_or_start(endpoint) as client:
        check_node(client, node)
        instance = _ready(client, words[0], request)
        talk = Conversation(client, instance, system=system, fields=fields)
        if prompt:
            _answer(talk, instance.model_uid, prompt, json=json)
        elif sys.stdin.isatty() and sys.stdout.isatty() and not json:
            converse(lambda text: _answer(talk, instance.model_uid, text), talk.clear)
        else:
            raise UsageError("no prompt given", f'xin run {words[0]} "What is the largest animal?"')


def _ready(client: Client, name: str, request: LaunchRequest) -> Instance:
    """A running instance of that uid, else one launched as asked."""
    if request == LaunchRequest(model_name=request.model_name):
        for instance in client.instances():
            if instance.model_uid == name and instance.state == "ready":
                return instance
    return wait_until_ready(client, client.launch(request, wait=False, on_demand=True))


def _answer(talk: Conversation, uid: str, prompt: str, *, json: bool = False) -> None:
    answer = Answer(uid)
    on_terminal = sys.stdout.isatty()
    with closing(talk.ask(prompt, answer)) as pieces:
        for piece in pieces:
            if not json:
                sys.stdout.write(output.printable(piece) if on_terminal else piece)
                sys.stdout.flush()
    if json:
        output.print_json(answer.to_json())
        return
    print(flush=True)
    print(answer.figures(), file=sys.stderr)
