"""Commands typed into the prompt: a slash, a name, an argument. `//` begins a question with a slash."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from xin.errors import UsageError
from xin.tui.chat import sampling


@dataclass(frozen=True, slots=True)
class Spec:
    """`argument` as the usage shows it: NAME must be given, [NAME] may be; its word chooses what completes it."""

    name: str
    argument: str
    help: str

    @property
    def usage(self) -> str:
        return f"/{self.name} {self.argument}".rstrip()


@dataclass(frozen=True, slots=True)
class Command:
    """What was asked for: `argument` is the rest of the line, `values` what it was read as."""

    name: str
    argument: str = ""
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Completion:
    """`text` is the whole prompt with it filled in."""

    text: str
    label: str
    help: str = ""


SPECS = (
    Spec("model", "MODEL", "another model in this pane"),
    Spec("system", "[TEXT]", "the system prompt of this pane; without text the dialog"),
    Spec("set", "SETTING [VALUE]", "a sampling setting; no value = the model's own"),
    Spec("save", "[FILE]", "write the session to a file: .md, .json or .html"),
    Spec("load", "[SESSION]", "another session, by id or title; without one the list"),
    Spec("image", "FILE", "attach a picture to the next question"),
    Spec("clear", "", "begin anew in all panes; what was said stays in the session"),
    Spec("retry", "[all]", "answer the last question again, as a branch"),
    Spec("bench", "[TOKENS]", "one measured answer of so many tokens (128)"),
    Spec("panes", "", "add, remove, swap and order panes"),
    Spec("params", "", "system prompt and sampling in a dialog"),
    Spec("vote", "", "which answer of the last turn is best"),
    Spec("blind", "", "hide the models' names until the vote"),
    Spec("diff", "", "word by word, what two answers share"),
    Spec("rename", "TITLE", "give the session a title"),
    Spec("branch", "", "go on in a copy of the session"),
    Spec("help", "", "these commands"),
)
BY_NAME = {spec.name: spec for spec in SPECS}
ALIASES = {"export": "save", "open": "load", "sessions": "load", "regenerate": "retry", "new": "clear", "?": "help"}
BENCH_TOKENS = 128
_ASSIGNED = re.compile(r"^(\w+)\s*=\s*")
MAX_BENCH_TOKENS = 100_000


def is_command(text: str) -> bool:
    return text.startswith("/") and not text.startswith("//")


def question(text: str) -> str:
    """The text to send: `//x` is `/x`."""
    return text[1:] if text.startswith("//") else text


def parse(text: str) -> Command | None:
    """None when it is a question. Raises UsageError that names the command or its argument."""
    if not is_command(text):
        return None
    word, rest = [*text[1:].split(maxsplit=1), "", ""][:2] if text[1:2].strip() else ("", text[1:])
    name = ALIASES.get(word.lower(), word.lower())
    spec = BY_NAME.get(name)
    if spec is None:
        raise _unknown(word)
    argument = rest.strip()
    if argument and not spec.argument:
        raise UsageError(f"/{name} takes no argument, not {argument[:40]!r}", spec.usage)
    if not argument and spec.argument and not spec.argument.startswith("["):
        raise UsageError(f"/{name}: {spec.argument.split()[0]} is missing", spec.usage)
    return Command(name, argument, _values(name, argument))


def completions(text: str, *, models: Sequence[str] = (), sessions: Iterable[tuple[int, str]] = ()) -> list[Completion]:
    """What the line may become: names of commands, then what fits their argument."""
    if not is_command(text) or "\n" in text:
        return []
    word, space, rest = text[1:].partition(" ")
    if not space:
        found = [spec for spec in SPECS if spec.name.startswith(word.lower())]
        return [Completion(f"/{one.name} " if one.argument else f"/{one.name}", one.usage, one.help) for one in found]
    name = ALIASES.get(word.lower(), word.lower())
    return [
        Completion(f"/{word} {value}", label, help)
        for value, label, help in _arguments(name, models, sessions)
        if rest.casefold() in label.casefold() and value != rest
    ]


def _arguments(name: str, models: Sequence[str], sessions: Iterable[tuple[int, str]]) -> list[tuple[str, str, str]]:
    """(value, label, help) of all arguments that are known of."""
    match name:
        case "model":
            return [(model, model, "") for model in models]
        case "set":
            return [(f"{field.name} ", field.name, f"{field.range}: {field.help}") for field in sampling.FIELDS]
        case "load":
            return [(str(id), f"{id} {title}", "") for id, title in sessions]
        case "retry":
            return [("all", "all", "every pane")]
        case _:
            return []


def _values(name: str, argument: str) -> dict[str, Any]:
    match name:
        case "set":
            setting, _, value = _ASSIGNED.sub(r"\1 ", argument, count=1).partition(" ")
            field = sampling.field_of(setting)
            return {"field": field.name, "value": field.parse(value.strip())}
        case "retry":
            if argument.lower() not in ("", "all"):
                raise UsageError(f"/retry: {argument[:40]!r} is not all", BY_NAME[name].usage)
            return {"all": bool(argument)}
        case "bench":
            return {"tokens": _tokens(argument)}
        case "image" | "save":
            return {"path": _path(name, argument)} if argument else {}
        case _:
            return {}


def _tokens(argument: str) -> int:
    if not argument:
        return BENCH_TOKENS
    if not argument.isascii() or not argument.isdecimal() or not 2 <= int(argument[:9]) <= MAX_BENCH_TOKENS:
        raise UsageError(f"/bench: TOKENS: {argument[:40]!r} is not a whole number from 2 to {MAX_BENCH_TOKENS:,}")
    return int(argument)


def _path(name: str, argument: str) -> str:
    """Quoted or not, as a shell and as a file manager's drop write it; ~ is left to the caller."""
    if argument[0] not in "'\"" and "\\" not in argument:
        return argument.removeprefix("file://")
    try:
        parts = shlex.split(argument)
    except ValueError as exc:
        raise UsageError(f"/{name}: FILE: {argument[:60]!r}: {exc}", BY_NAME[name].usage) from exc
    if len(parts) != 1:
        raise UsageError(f"/{name}: FILE: {argument[:60]!r} is more than one file", BY_NAME[name].usage)
    return parts[0]


def _unknown(word: str) -> UsageError:
    near = get_close_matches(word.lower(), [*BY_NAME, *ALIASES], 1)
    hint = f"did you mean /{near[0]}?" if near else "/help lists them"
    return UsageError(f"there is no command /{word[:40]}", f"{hint}  // sends it as text")
