"""The `xin` command: which commands there are; each one's module is imported when it is called."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from xin import __version__
from xin.errors import XinError

COMMANDS = {
    "tui": ("xin.cli.tui", "Open the workbench: fleet, chats, jobs, logs"),
    "run": ("xin.cli.run", "Ask a model, or talk with it; launches it if need be"),
    "chat": ("xin.cli.chat", "Ask several models at once, answers side by side"),
    "launch": ("xin.cli.launch", "Launch a model and print its uid"),
    "list": ("xin.cli.list", "List running models, or all that can be launched"),
    "terminate": ("xin.cli.launch", "End running models"),
    "scale": ("xin.cli.scale", "Run more or fewer replicas of a model"),
    "plan": ("xin.cli.plan", "Say what of a model fits here, with how much context"),
    "recommend": ("xin.cli.recommend", "Say what this node runs well, and how to launch it"),
    "show": ("xin.cli.show", "Show all that is known of a model"),
    "logs": ("xin.cli.logs", "Show what a model's process has said"),
    "bench": ("xin.cli.bench", "Measure a running model: first token, tokens a second"),
    "files": ("xin.cli.files", "List the weights on this machine, and who uses them"),
    "rm": ("xin.cli.files", "Remove a model's weights, after a preview"),
    "quantize": ("xin.cli.quantize", "Make other quantizations of a local model"),
    "convert": ("xin.cli.convert", "Make a GGUF of a model in safetensors"),
    "register": ("xin.cli.register", "Add a model to the catalogue"),
    "unregister": ("xin.cli.register", "Forget a registered model"),
    "registrations": ("xin.cli.register", "List registered models"),
    "node": ("xin.cli.node", "Run this machine's node, or stop it"),
    "nodes": ("xin.cli.nodes", "List the nodes that can be seen"),
    "doctor": ("xin.cli.doctor", "Say what is wrong with node, engines, disks and network"),
    "pair": ("xin.cli.pair", "Pair this node with one on another machine"),
    "join": ("xin.cli.pair", "Enter a cluster by a token, for scripts"),
    "cluster": ("xin.cli.cluster", "List paired nodes, turn one out, make tokens"),
    "cert": ("xin.cli.cert", "Export what apps elsewhere know the node by (--tls)"),
    "keys": ("xin.cli.keys", "List, add and revoke API keys for apps elsewhere"),
    "sessions": ("xin.cli.sessions", "List, search, export and import what was talked about"),
    "jobs": ("xin.cli.jobs", "List and steer the node's jobs"),
    "engines": ("xin.cli.engines", "List engines and install them"),
    "fake-node": ("xin.cli.fake_node", "Run a node that makes its answers up, to see every state without weights"),
    "pull": ("xin.cli.pull", "Say whether a model is on this machine"),
}
ALIASES = {"ps": "list", "stop": "terminate", "serve": "node"}
HIDDEN = {"pull", "fake-node"}
EPILOG = "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 no node answers, 5 launch failed, 130 interrupted."


class LazyGroup(TyperGroup):
    """Lists its commands from the table above, and is where errors become words and exit codes."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        names: Any = dict.fromkeys(self.list_commands(None))
        self.commands = names  # for "did you mean"

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in COMMANDS if name not in HIDDEN]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        group = get_group(import_module(COMMANDS[name][0]).app)
        return group.get_command(ctx, name) or group

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except XinError as exc:
            report(exc)
            raise typer.Exit(exc.exit_code) from exc
        except KeyboardInterrupt as exc:
            if sys.stderr.isatty():
                print(file=sys.stderr)
            raise typer.Exit(130) from exc


app = typer.Typer(
    cls=LazyGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    # httpx imports its own command line (click, pygments, rich) when it can: 0.1 s that no command here needs.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    app(prog_name="xin")


def report(error: XinError) -> None:
    """One line of cause, one of what to do, on stderr."""
    from xin.cli.output import one_line

    print(f"xin: {one_line(error.message)}", file=sys.stderr)
    if error.hint:
        print(f"     {one_line(error.hint)}", file=sys.stderr)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"xin {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run open models on the machines you already have."""
