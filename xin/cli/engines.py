"""`xin engines`: what can run models here, and `xin engines install NAME`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from xin.cli.output import console, print_json, say, table
from xin.errors import UsageError

if TYPE_CHECKING:
    from xin.installer.install import Installed
    from xin.installer.pip import Report
    from xin.installer.recipes import Accelerator
    from xin.protocol.node import EngineInfo

app = typer.Typer(rich_markup_mode=None)
group = typer.Typer(help="List engines and install them.", invoke_without_command=True, rich_markup_mode=None)
app.add_typer(group, name="engines")

_PLAIN_SECONDS = 20.0
_HOW = {
    "present": "was there already",
    "prebuilt": "installed from a prebuilt wheel",
    "cached": "installed from the wheel compiled earlier",
    "built": "compiled and installed",
    "index": "installed",
}


@group.callback(invoke_without_command=True)
def engines(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the engines: version, weight formats, how they were built, what is missing."""
    if context.invoked_subcommand is not None:
        return
    from xin.installer.status import engine_infos

    infos = engine_infos()
    if json:
        print_json(infos)
    else:
        console().print(table(("ENGINE", "VERSION", "FORMATS", "STATUS"), map(_row, infos)))


@group.command()
def install(
    name: Annotated[
        str,
        typer.Argument(help="llama.cpp, chatglm.cpp, transformers or faster-whisper.", autocompletion=lambda: _names()),
    ],
    build: Annotated[bool, typer.Option("--build", help="Compile here; look for no prebuilt wheel.")] = False,
    cuda: Annotated[bool, typer.Option("--cuda", help="Build for NVIDIA GPUs.")] = False,
    metal: Annotated[bool, typer.Option("--metal", help="Build for Apple GPUs.")] = False,
    rocm: Annotated[bool, typer.Option("--rocm", help="Build for AMD GPUs.")] = False,
    vulkan: Annotated[bool, typer.Option("--vulkan", help="Build for any GPU with Vulkan.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before compiling.")] = False,
) -> None:
    """Install one engine into this Python environment."""
    from xin.installer.install import install as run

    accelerator = _accelerator({"cuda": cuda, "metal": metal, "rocm": rocm, "vulkan": vulkan})
    with _narration(name) as report:
        installed = run(
            name, build=build, accelerator=accelerator, confirm=lambda question: yes or _ask(question), report=report
        )
    _print_result(installed)


def _names() -> list[str]:
    from xin.installer.recipes import RECIPES

    return list(RECIPES)


def _accelerator(asked: dict[Accelerator, bool]) -> Accelerator | None:
    chosen = [name for name, wanted in asked.items() if wanted]
    if len(chosen) > 1:
        raise UsageError(f"--{chosen[0]} and --{chosen[1]} together", "one build has one accelerator")
    return chosen[0] if chosen else None


def _ask(question: str) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(question, "pass --yes to agree without a terminal")
    return typer.confirm(f"{question}. Go on?", default=True, err=True)


@contextmanager
def _narration(name: str) -> Iterator[Report]:
    """Steps on stderr: a live line with the time on a terminal, else a line for each new kind, and now and then."""
    if sys.stderr.isatty():
        with _live(name) as report:
            yield report
    else:
        yield _plain(name)


@contextmanager
def _live(name: str) -> Iterator[Report]:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=None)
        yield lambda step: progress.update(task, description=f"{name}: {step}")


def _plain(name: str) -> Report:
    begun = time.monotonic()
    shown_at, shown_kinds = begun, set[str]()

    def report(step: str) -> None:
        nonlocal shown_at
        now, kind = time.monotonic(), step.split(" ")[0]
        if kind in shown_kinds and now - shown_at < _PLAIN_SECONDS:
            return
        shown_at = now
        shown_kinds.add(kind)
        say(f"{name}: {step} ({now - begun:.0f} s)")

    return report


def _print_result(installed: Installed) -> None:
    target = "" if installed.accelerator == "cpu" else f" for {installed.accelerator}"
    print(f"{installed.name} {installed.version}{target}: {_HOW[installed.how]}")
    for note in installed.notes:
        say(note)


def _row(info: EngineInfo) -> tuple[str, ...]:
    return info.name, info.version or "-", ", ".join(info.formats) or "-", _status(info)


def _status(info: EngineInfo) -> str:
    parts = ["installed" if info.installed else f"not installed: xin engines install {info.name}"]
    if built := info.details.get("backends"):
        parts.append(f"backends {', '.join(built)}" + ("" if info.details.get("rpc") else "; no RPC"))
    if note := info.details.get("note"):
        parts.append(str(note))
    if info.missing and info.version:
        parts.append(f"missing {', '.join(info.missing)}")
    return "; ".join(parts)
