"""What commands are given: the options they share, engine options, and the forms of MODEL."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from xin.errors import UsageError, XinError

ENGINE_OPTIONS = {"ignore_unknown_options": True}


def split(tokens: Sequence[str] | None) -> tuple[list[str], dict[str, Any]]:
    """Words, and the engine options among them: `--n-parallel 2`, `--n-parallel=2`, `--flag`, `--no-flag`."""
    words: list[str] = []
    options: dict[str, Any] = {}
    waiting = list(tokens or ())
    while waiting:
        token = waiting.pop(0)
        if not token.startswith("-") or _is_number(token) or token == "-":
            words.append(token)
            continue
        if not token.startswith("--"):
            raise UsageError(f"no such option: {token}", "--help lists them")
        key, has_value, value = token[2:].partition("=")
        key = key.replace("-", "_")
        if has_value:
            options[key] = value_of(value)
        elif key.startswith("no_"):
            options[key.removeprefix("no_")] = False
        elif waiting and (not waiting[0].startswith("-") or _is_number(waiting[0])):
            options[key] = value_of(waiting.pop(0))
        else:
            options[key] = True
    return words, options


def pairs(texts: Iterable[str] | None) -> dict[str, Any]:
    """`--option key=value`, any number of them."""
    found: dict[str, Any] = {}
    for text in texts or ():
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise UsageError(f"--option {text} is not key=value", "for example: --option n_parallel=4")
        found[key.replace("-", "_")] = value_of(value)
    return found


def numbers(text: str) -> list[int]:
    """`0,1`: which accelerators."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UsageError(f"--gpu {text} is no list of numbers", "for example: --gpu 0,1")
    return [int(part) for part in parts]


def value_of(text: str) -> Any:
    """JSON where it is JSON (4096, 0.5, true, [1, 2]), else the text itself."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def one_model(words: Sequence[str], model_name: str | None) -> str:
    """The MODEL of a command line, as a word or an option."""
    given = [*words, *([model_name] if model_name else [])]
    if len(given) == 1:
        return given[0]
    if not given:
        raise UsageError("no MODEL given", "name it first: MODEL --key value; xin list --all shows models")
    raise UsageError(f"one MODEL at a time, not {len(given)}: {' '.join(given)}", "write flags as --key=value")


def model_of(text: str) -> str:
    """A catalogue name or org/repo[:file] as it is; a path made absolute, since the node has another working folder.

    Links stay: in the Hugging Face cache only the link has the file's name.
    """
    path = os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111 - Path.resolve follows links
    looks_like_a_path = text.startswith(("/", "./", "../", "~")) or (text.endswith(".gguf") and ":" not in text)
    return path if looks_like_a_path or ("/" in text and Path(path).is_file()) else text


def prompt_of(words: Sequence[str]) -> str:
    """The words, then what is piped in."""
    piped = "" if sys.stdin.isatty() else sys.stdin.read().strip()
    return "\n\n".join(part for part in (" ".join(words), piped) if part)


def sampling(**fields: Any) -> dict[str, Any]:
    """The request fields that were given."""
    return {key: value for key, value in fields.items() if value is not None}


def complete_uid(incomplete: str) -> list[str]:
    """Shell completion: uids of running models."""
    from xin.cli.connection import connect

    try:
        with connect(None) as client:
            return [instance.model_uid for instance in client.instances() if instance.model_uid.startswith(incomplete)]
    except XinError:
        return []


def complete_model(incomplete: str) -> list[str]:
    """Shell completion: names of models that are here."""
    from xin.cli.connection import connect

    try:
        with connect(None) as client:
            return [model.model_name for model in client.local_models() if model.model_name.startswith(incomplete)]
    except XinError:
        return []


def complete_any_model(incomplete: str) -> list[str]:
    """Shell completion: what is here, then the catalogue, for which no node need run."""
    from xin.catalog.spec import families

    catalogued = sorted(name for name in families() if name.startswith(incomplete))
    return [*dict.fromkeys([*complete_model(incomplete), *catalogued])]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


Endpoint = Annotated[
    str | None,
    typer.Option("--endpoint", "-e", metavar="URL", help="The node to talk to (XIN_ENDPOINT; default this machine's)."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Node = Annotated[
    str | None, typer.Option("--node", metavar="NAME", help="The node to run on; default: the best of the cluster.")
]
ModelName = Annotated[str | None, typer.Option("--model-name", "-n", metavar="MODEL", help="MODEL, as an option.")]
Size = Annotated[str | None, typer.Option("--size-in-billions", "-s", metavar="SIZE", help="Which size.")]
Format = Annotated[str | None, typer.Option("--model-format", "-f", metavar="FORMAT", help="Which format: gguf, …")]
Quantization = Annotated[str | None, typer.Option("--quantization", "-q", help="Which quantization: Q4_K_M, …")]
Uid = Annotated[str | None, typer.Option("--model-uid", "-u", metavar="UID", help="The name to run it under.")]
Engine = Annotated[str | None, typer.Option("--model-engine", "--engine", metavar="ENGINE", help="Which engine.")]
ContextLength = Annotated[int | None, typer.Option("--context-length", min=1, help="Window in tokens.")]
Option = Annotated[list[str] | None, typer.Option("--option", "-o", metavar="KEY=VALUE", help="An engine option.")]
KeepAlive = Annotated[
    str | None, typer.Option("--keep-alive", metavar="SECONDS", help="Unload when idle for so long; -1 = never.")
]
System = Annotated[str | None, typer.Option("--system", metavar="TEXT", help="A system prompt.")]
Temperature = Annotated[float | None, typer.Option("--temperature", "-t", help="0 = always the likeliest token.")]
TopP = Annotated[float | None, typer.Option("--top-p", help="Nucleus sampling.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", "--max_tokens", help="Limit of an answer.")]
Seed = Annotated[int | None, typer.Option("--seed", help="For repeatable answers.")]


ModelAndOptions = Annotated[
    list[str] | None,
    typer.Argument(metavar="MODEL [--KEY VALUE]...", show_default=False, autocompletion=complete_any_model),
]
