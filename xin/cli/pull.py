"""`xin pull`, for hands that know Ollama: says what is here; xin downloads nothing yet."""

from __future__ import annotations

from typing import Annotated

import typer

from xin.cli import arguments, output
from xin.cli.connection import connect
from xin.errors import ModelNotFound

app = typer.Typer(rich_markup_mode=None)


@app.command()
def pull(
    model: Annotated[str, typer.Argument(metavar="MODEL", autocompletion=arguments.complete_model)],
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Say whether a model is on this machine; downloading comes with a later version."""
    name = arguments.model_of(model)
    repo = name.partition(":")[0]
    with connect(endpoint) as client:
        models = client.local_models()
    found = [one for one in models if name in (one.model_name, *one.weights) or one.model_name.split(":")[0] == repo]
    if not found:
        fetch = f"hf download {repo} --include '*.gguf'" if "/" in repo else "xin list --all shows what is here"
        raise ModelNotFound(f"{model} is not on this machine, and xin cannot download yet", f"until then: {fetch}")
    if json:
        output.print_json(found)
        return
    for one in found:
        print(f"{one.model_name} is here: {', '.join(one.weights) or 'it needs no weights'}")
