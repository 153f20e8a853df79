"""`xin sessions`: what was talked about in the workbench; needs no node."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xin.cli import arguments, output
from xin.errors import NotFound, UsageError

if TYPE_CHECKING:
    from xin.sessions.records import SessionSummary
    from xin.sessions.store import SessionStore

app = typer.Typer(rich_markup_mode=None)
group = typer.Typer(
    help="List, search, export and import sessions: what was talked about in the workbench.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
app.add_typer(group, name="sessions")

EVERY = 1_000_000
HINT = "xin sessions list shows their ids"


class Format(StrEnum):
    md = "md"
    json = "json"
    html = "html"


def complete_session(incomplete: str) -> list[str]:
    """Shell completion: ids."""
    with _store() as store:
        return [str(one.id) for one in store.sessions() if str(one.id).startswith(incomplete)]


Session = Annotated[
    str,
    typer.Argument(metavar="SESSION", help="Its id, a part of its title, or last.", autocompletion=complete_session),
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=EVERY, help="At most so many.")]


@group.callback(invoke_without_command=True)
def sessions(context: typer.Context, json: arguments.Json = False) -> None:
    """List, search, export and import sessions: what was talked about in the workbench."""
    if context.invoked_subcommand is None:
        list_sessions(json=json)


@group.command("list")
def list_sessions(limit: Limit = 50, json: arguments.Json = False) -> None:
    """List sessions, newest first."""
    with _store() as store:
        _print(store.sessions(limit=limit), json, "no sessions yet: what is asked in the workbench is kept here")


@group.command()
def search(
    words: Annotated[list[str], typer.Argument(metavar="WORDS", help="All must occur, also as parts of words.")],
    limit: Limit = 50,
    json: arguments.Json = False,
) -> None:
    """Find sessions by what was said in them, or by title."""
    with _store() as store:
        query = " ".join(f'"{word}"' if " " in word and '"' not in word else word for word in words)
        _print(store.sessions(query, limit=limit), json, f"nothing was found for {query!r}")


@group.command()
def show(session: Session, json: arguments.Json = False) -> None:
    """Read a session."""
    with _store() as store:
        id = _session_of(store, session)
        if json:
            output.print_json(store.load(id))
        else:
            sys.stdout.write(output.printable(store.export_markdown(id)))


@group.command()
def rename(
    session: Session,
    title: Annotated[list[str], typer.Argument(metavar="TITLE", help="Its new title.")],
    json: arguments.Json = False,
) -> None:
    """Give a session another title."""
    with _store() as store:
        id = _session_of(store, session)
        store.rename(id, " ".join(title))
    output.print_json({"renamed": id}) if json else print(id)


@group.command()
def delete(
    session: Annotated[list[str], typer.Argument(metavar="SESSION", help="Ids, parts of titles, or last.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: arguments.Json = False,
) -> None:
    """Delete sessions for good."""
    with _store() as store:
        ids = list(dict.fromkeys(_session_of(store, one) for one in session))
        named = {one.id: one.title for one in store.sessions(limit=EVERY)}
        for id in ids:
            if not yes and not _agreed(f"Delete session {id} {output.one_line(named.get(id, ''))!r}"):
                raise typer.Exit(1)
        for id in ids:
            store.delete(id)
    output.print_json({"deleted": ids}) if json else print(*ids, sep="\n")


@group.command()
def branch(
    session: Session,
    turn: Annotated[int | None, typer.Option("--turn", min=0, help="Only up to this turn.")] = None,
    title: Annotated[str, typer.Option("--title", help="What the copy is called.")] = "",
    json: arguments.Json = False,
) -> None:
    """Copy a session, to go on from it another way; prints the copy's id."""
    with _store() as store:
        id = store.branch(_session_of(store, session), turn=turn, title=title)
    output.print_json({"branched": id}) if json else print(id)


@group.command()
def export(
    session: Session,
    format: Annotated[Format | None, typer.Option("--format", "-f", help="md to read, json to take along.")] = None,
    to: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Else stdout.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Write a session as Markdown, HTML or JSON, every text byte for byte; import reads the JSON."""
    chosen = _format_of(format, to, json)
    with _store() as store:
        id = _session_of(store, session)
        exporters = {"md": store.export_markdown, "json": store.export_json, "html": store.export_html}
        data = exporters[chosen](id).encode()
    if to is None or str(to) == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    if to.exists() and not force:
        raise UsageError(f"{to} is there already", "--force replaces it")
    try:
        to.write_bytes(data)
    except OSError as exc:
        raise UsageError(f"{to} cannot be written: {exc.strerror}") from exc
    output.say(f"session {id} written to {to} ({len(data):,} bytes)")


@group.command("import")
def import_sessions(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="From export --format json; - is stdin.")],
    json: arguments.Json = False,
) -> None:
    """Read exported sessions; prints their ids here."""
    texts = [_read(name) for name in files]
    with _store() as store:
        ids = [store.import_json(text) for text in texts]
    output.print_json({"imported": ids}) if json else print(*ids, sep="\n")


@group.command()
def votes(json: arguments.Json = False) -> None:
    """The tally of votes on answers, by model."""
    with _store() as store:
        standings = store.tally()
    if json:
        output.print_json(standings)
    elif not standings:
        output.say("no votes yet: F5 in a chat of two panes votes on the last answers")
    else:
        rows = [(one.model, one.wins, one.losses, one.ties) for one in standings]
        headers = ("MODEL", "WINS", "LOSSES", "TIES")
        output.draw(output.table(headers, rows, right=headers[1:]))


def _store() -> SessionStore:
    from xin.sessions.store import SessionStore

    return SessionStore()


def _session_of(store: SessionStore, text: str) -> int:
    """The id that a person means. Raises NotFound."""
    if text.isdecimal() and text.isascii() and len(text) < 19:
        return int(text)
    listed = store.sessions(limit=EVERY)
    if text == "last":
        if not listed:
            raise NotFound("there are no sessions yet")
        return listed[0].id
    exact = [one for one in listed if one.title == text]
    named = exact or [one for one in listed if text.casefold() in one.title.casefold()]
    if len(named) != 1:
        raise NotFound(f"{len(named) or 'no'} sessions have {text!r} in their title", HINT)
    return named[0].id


def _print(summaries: Sequence[SessionSummary], json: bool, none: str) -> None:
    if json:
        return output.print_json(summaries)
    if not summaries:
        return output.say(none)
    rows = [
        (one.id, _when(one.updated_at), one.turns, output.one_line(one.title) or "-", ", ".join(one.models) or "-")
        for one in summaries
    ]
    return output.draw(output.table(("ID", "CHANGED", "TURNS", "TITLE", "MODELS"), rows, right=("ID", "TURNS")))


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(question, "pass --yes to agree without a terminal")
    return typer.confirm(f"{question}?", default=False, err=True)


def _format_of(format: Format | None, to: Path | None, json: bool) -> str:
    """As it is told, else by the file's ending, else Markdown."""
    if format is not None and json and format is not Format.json:
        raise UsageError(f"--format {format} and --json together", "one of them")
    if format is not None or json:
        return format or "json"
    ending = to.suffix.lower().lstrip(".") if to else ""
    return {"json": "json", "html": "html", "htm": "html"}.get(ending, "md")


def _read(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as exc:
        raise UsageError(f"{name} cannot be read: {exc.strerror}") from exc
