"""`xin register`, `xin unregister`, `xin registrations`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xin.cli import arguments, output
from xin.cli.connection import connect
from xin.errors import UsageError

app = typer.Typer(rich_markup_mode=None)
_MODEL_TYPE = "LLM"
_Type = Annotated[str, typer.Option("--model-type", "-t", metavar="TYPE", help="There is only LLM.")]


@app.command()
def register(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", dir_okay=False)] = None,
    given: Annotated[Path | None, typer.Option("--file", "-f", metavar="FILE", help="FILE, as an option.")] = None,
    model_type: _Type = _MODEL_TYPE,
    persist: Annotated[bool, typer.Option("--persist/--no-persist", "-p", help="Keep it over a restart.")] = True,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Add a model to the catalogue: FILE is TOML in the catalogue's own schema, or Xinference's JSON."""
    path = file or given
    if path is None:
        raise UsageError("which file?", "xin register my-model.toml")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"cannot read {path}: {exc}", "give a TOML or JSON file") from exc
    with connect(endpoint) as client:
        client.register_model(model_type, text, persist)
    output.say(f"{path} is registered; xin registrations lists what is")
    if json:
        output.print_json({"registered": str(path)})


@app.command()
def unregister(
    name: Annotated[str | None, typer.Argument(metavar="NAME")] = None,
    model_name: arguments.ModelName = None,
    model_type: _Type = _MODEL_TYPE,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Forget a registered model. Its weights stay: xin rm frees them."""
    if not (known := name or model_name):
        raise UsageError("which model?", "xin registrations lists them")
    with connect(endpoint) as client:
        client.unregister_model(model_type, known)
    output.say(f"{known} is no longer registered")
    if json:
        output.print_json({"unregistered": known})


@app.command()
def registrations(
    everything: Annotated[bool, typer.Option("--all", "-a", help="Also the built-in models.")] = False,
    model_type: _Type = _MODEL_TYPE,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """List the models that were registered, with --all the built-in ones too."""
    with connect(endpoint) as client:
        listed = client.list_model_registrations(model_type, detailed=True)
    shown = [one for one in listed if one["is_registered"] or (everything and one["is_builtin"])]
    if json:
        output.print_json(shown)
        return
    if not shown:
        output.say("nothing is registered; add a model: xin register FILE")
        return
    headers = ("TYPE", "NAME", "LANGUAGES", "ABILITIES", "BUILT-IN", "HERE")
    rows = [
        (
            one["model_type"],
            one["model_name"],
            ", ".join(one["model_lang"]) or "-",
            ", ".join(one["model_ability"]) or "-",
            "yes" if one["is_builtin"] else "no",
            "yes" if any(all(spec["cache_status"]) for spec in one["model_specs"]) else "no",
        )
        for one in shown
    ]
    output.draw(output.table(headers, rows))
