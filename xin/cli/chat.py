"""`xin chat`: one prompt to several models, their answers side by side."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from xin.cli import arguments
from xin.cli.connection import connect_or_start
from xin.cli.repl import converse
from xin.cli.side_by_side import SideBySide
from xin.client import Client
from xin.errors import ModelNotFound, UsageError

app = typer.Typer(rich_markup_mode=None)

MODEL_HINT = "xin list shows what runs, xin list --all what can be launched"


@app.command()
def chat(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="UID... [PROMPT]", show_default=False, autocompletion=arguments.complete_uid),
    ] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", metavar="TEXT", help="PROMPT, as an option.")] = None,
    system: arguments.System = None,
    temperature: arguments.Temperature = None,
    top_p: arguments.TopP = None,
    max_tokens: arguments.MaxTokens = None,
    seed: arguments.Seed = None,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Ask several running models the same, and watch their answers side by side.

    PROMPT begins with the first word that is no model, or is --prompt. A model that does not run is launched by its
    first request. Text piped in is added to the prompt. Without one, on a terminal, this is a conversation with all.
    """
    fields = arguments.sampling(temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed)
    with connect_or_start(endpoint) as client:
        models, rest = _split(client, list(words or ()))
    if prompt is not None and rest:
        raise ModelNotFound(f"{rest[0]} is not a model", MODEL_HINT)
    talk = SideBySide(client.endpoint, models, system=system, fields=fields)
    text = arguments.prompt_of([*([prompt] if prompt else []), *rest])
    if text:
        answers = talk.ask(text, json=json)
        for answer in answers:
            if answer.error:
                raise answer.error
    elif sys.stdin.isatty() and sys.stdout.isatty() and not json:
        converse(talk.ask, talk.clear)
    else:
        raise UsageError("no prompt given", f'xin chat {" ".join(models)} "What is the largest animal?"')


def _split(client: Client, words: list[str]) -> tuple[list[str], list[str]]:
    """The leading words that are models, and the prompt's."""
    if not words:
        raise UsageError("no UID given", 'xin chat UID UID "question"; xin list shows the uids')
    running = client.instances()
    known = {one.model_uid for one in running} | {one.model_name for one in running}
    models: list[str] = []
    for word in words:
        if word not in known:
            known |= {one.model_name for one in client.local_models()}
        if word not in known:
            break
        models.append(word)
    if not models:
        raise ModelNotFound(f"{words[0]} is not a model", MODEL_HINT)
    return models, words[len(models) :]
