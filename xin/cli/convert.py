"""`xin convert`: a GGUF from a folder of safetensors, by llama.cpp's own converter where the person has it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from xin import paths
from xin.cli import arguments, output
from xin.cli.connection import connect_or_start
from xin.errors import BadRequest, Conflict, EngineMissing, LoadFailed, ModelNotFound

app = typer.Typer(rich_markup_mode=None)
SCRIPT = "convert_hf_to_gguf.py"
GET_IT = f"git clone --depth 1 https://github.com/ggml-org/llama.cpp, then add --converter llama.cpp/{SCRIPT}"
NEEDED = ("torch", "transformers", "sentencepiece")
_PART = ".part"


@app.command()
def convert(
    model: Annotated[str, typer.Argument(metavar="MODEL", autocompletion=arguments.complete_model)],
    converter: Annotated[
        str | None, typer.Option("--converter", metavar="PATH", help=f"llama.cpp's {SCRIPT}, or its folder.")
    ] = None,
    to: Annotated[Literal["f32", "f16", "bf16", "q8_0"], typer.Option("--to", help="Type of the weights.")] = "f16",
    name: Annotated[str | None, typer.Option("--name", help="Of the file, without .gguf.")] = None,
    endpoint: arguments.Endpoint = None,
    json: arguments.Json = False,
) -> None:
    """Make a GGUF of a model in safetensors, for llama.cpp's engine and `xin quantize`.

    MODEL is a folder, or the name of a PyTorch model that is on this machine. The work is done by llama.cpp's
    converter, from --converter or from PATH: it is its project's script and part of no package, so xin brings none.
    """
    script = _script(converter)
    folder = _folder(model, endpoint)
    target = _target(name or f"{_base(model, folder)}.{to.upper()}")
    _check_modules()
    _run(script, folder, target, to)
    if json:
        output.print_json({"path": str(target), "size_bytes": target.stat().st_size})
    else:
        print(target)
        output.say(f"xin launch {target.stem}; or in four bits: xin quantize {target.stem} Q4_K_M")


def _script(given: str | None) -> Path:
    """Raises EngineMissing, with the line that gets one, or ModelNotFound."""
    if given is None:
        found = shutil.which(SCRIPT)
        if found is None:
            raise EngineMissing(f"no converter is here: llama.cpp's {SCRIPT} is not in PATH", GET_IT)
        return Path(found)
    path = Path(given).expanduser().absolute()
    path = path / SCRIPT if path.is_dir() else path
    if not path.is_file():
        raise ModelNotFound(f"there is no converter {path}", GET_IT)
    return path


def _folder(model: str, endpoint: str | None) -> Path:
    """A folder as it is given, else that of a model that the node knows."""
    path = Path(arguments.model_of(model))
    if not path.is_absolute() and not path.is_dir():
        with connect_or_start(endpoint) as client:
            found = next((one for one in client.local_models() if one.model_name == model), None)
        if found is None:
            raise ModelNotFound(f"there is no model {model!r} here", "name its folder, or fetch it: xin pull MODEL")
        if found.model_format != "pytorch":
            raise BadRequest(f"{model} is {found.model_format} already", f"xin quantize {model} Q4_K_M")
        path = Path(found.weights[0])
    if not (path / "config.json").is_file():
        raise BadRequest(f"{path} has no config.json", "give the folder of a whole repository, in safetensors")
    return path.absolute()


def _base(model: str, folder: Path) -> str:
    """A folder's own name; of one in the hub's cache, which is a commit, the model's."""
    named = folder.name if Path(model).is_dir() else model.rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", named).strip("-.") or "model"


def _target(stem: str) -> Path:
    if "/" in stem or stem.startswith(".") or len(stem) > 200 or not stem.isprintable():
        raise BadRequest(f"{stem[:80]!r} is not a file name", "use letters, digits, dot and dash", param="name")
    target = paths.private(paths.data_dir() / "models") / f"{stem}.gguf"
    if target.exists():
        raise Conflict(f"{target.name} is there already", f"it lies in {target.parent}; --name gives another")
    return target


def _check_modules() -> None:
    lacking = [module for module in NEEDED if find_spec(module) is None]
    if lacking:
        hint = f"xin engines install transformers, and: {Path(sys.executable).name} -m pip install sentencepiece"
        raise EngineMissing(f"the converter needs {', '.join(lacking)}", hint)


def _run(script: Path, folder: Path, target: Path, to: str) -> None:
    """What it says goes to stderr. The target appears whole or not at all."""
    part = target.with_name(target.name + _PART)
    command: Sequence[str] = [sys.executable, str(script), str(folder), "--outfile", str(part), "--outtype", to]
    try:
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), check=False).returncode
        if code != 0 or not part.is_file():
            hint = "it says why above; not every architecture has a GGUF form"
            raise LoadFailed(f"{script.name} ended with exit code {code} and made no file", hint)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
