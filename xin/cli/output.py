"""How commands write: data on stdout, everything else on stderr. Rich is imported when something is drawn."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 240


def say(text: str) -> None:
    """A line for the person, not for the pipe."""
    print(f"xin: {text}", file=sys.stderr, flush=True)


def print_json(data: Any) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n")


def print_json_line(data: Any) -> None:
    sys.stdout.write(msgspec.json.encode(data).decode() + "\n")
    sys.stdout.flush()


def console(*, stderr: bool = False) -> Console:
    """Wide where nobody looks, so that a pipe gets whole values."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else PIPE_WIDTH, highlight=False)


def draw(renderable: Any) -> None:
    """On stdout; without trailing blanks where it is not a terminal."""
    made = console()
    if sys.stdout.isatty():
        made.print(renderable)
        return
    with made.capture() as captured:
        made.print(renderable)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    sys.stdout.flush()


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()) -> Any:
    """A rich Table without lines; `right` names columns of numbers. Cells are text, never markup."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for header in headers:
        made.add_column(header, justify="right" if header in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(str(cell))) for cell in row))
    return made


def printable(text: str) -> str:
    """Without the control characters that could steer a terminal."""
    return "".join(char for char in text if char in "\n\t" or (char >= " " and not "\x7f" <= char <= "\x9f"))


def one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def size(count: int | None) -> str:
    """Bytes as MiB or GiB."""
    if not count:
        return "-"
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def billions(count: float | None) -> str:
    """Parameters, as model names give them: 135M, 7B."""
    if not count:
        return "-"
    return f"{count:g}B" if count >= 1 else f"{count * 1000:g}M"


def seconds(count: float) -> str:
    return f"{count * 1000:.0f} ms" if count < 1 else f"{count:.1f} s"
