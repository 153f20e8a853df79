"""ToolParser: the calls in an answer apart from its content, while it streams.

Each format is a generator over a Tape, so that however the text is cut the sums are the same. What turns out to be no
call is content, letter by letter.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Collection
from typing import Any

import msgspec

from xin.chat.tape import Reading, Tape
from xin.worker.frames import CallDelta

HERMES = ("<tool_call>", "</tool_call>")
MISTRAL = "[TOOL_CALLS]"
MISTRAL_ID, MISTRAL_ARGUMENTS = "[CALL_ID]", "[ARGS]"
PYTHON_TAG = "<|python_tag|>"
DEEPSEEK = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")
DEEPSEEK_CALL = ("<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>")
FENCE = "```"

# Marks that a vocabulary may have as control tokens, whose text does not show unless it is asked for.
MARKS: dict[str, tuple[str, ...]] = {
    "hermes": HERMES,
    "llama3": (PYTHON_TAG,),
    "mistral": (MISTRAL, MISTRAL_ID, MISTRAL_ARGUMENTS),
    "deepseek": (*DEEPSEEK, *DEEPSEEK_CALL),
    "json": (),
}
_ARGUMENTS = ("arguments", "parameters")
_SEPARATORS = "; \n\r\t,"
_NAME = re.compile(r"[\w.:/-]{1,128}")
_KEYS = frozenset({"name", "type", "id", "function", *_ARGUMENTS})


class _Finished(Exception):
    """No more than one call is wanted, and it is whole."""


class ToolParser:
    """Feed text as it comes; each call gives (content, changes of calls). `names`: the functions that exist.

    Not `parallel`: all after the first call is dropped, and `finished` tells that it has ended.
    """

    def __init__(self, format_: str, names: Collection[str], *, parallel: bool = True, short_ids: bool = False) -> None:
        self._tape = Tape()
        self._names = frozenset(names)
        self._parallel = parallel
        self._id = _short_id if short_ids else _long_id
        self._content: list[str] = []
        self._changes: list[CallDelta] = []
        self._count = 0
        self._wrote = False  # something of the last call's arguments
        self._gap = ""  # white space that is content only if more follows
        self.finished = False
        self._reading: Reading[None] | None = _FORMATS[format_](self)
        self._advance()

    @property
    def called(self) -> bool:
        """Whether there was a call."""
        return self._count > 0

    def feed(self, text: str) -> tuple[str, list[CallDelta]]:
        """What can be told apart now; the rest is held until it can."""
        self._tape.held += text
        self._advance()
        return self._given()

    def flush(self) -> tuple[str, list[CallDelta]]:
        """At the end of the answer: what was held."""
        self._tape.ended = True
        self._advance()
        return self._given()

    def _advance(self) -> None:
        if self._reading is None:
            return
        try:
            next(self._reading)
        except (StopIteration, _Finished):
            self._reading = None

    def _given(self) -> tuple[str, list[CallDelta]]:
        content, changes = "".join(self._content), self._changes
        self._content, self._changes = [], []
        return content, changes

    # ---- formats

    def _hermes(self) -> Reading[None]:
        opening, closing = HERMES
        while (yield from self._text(opening)):
            if (yield from self._marked(opening)):
                yield from self._drop(closing)

    def _mistral(self) -> Reading[None]:
        while (yield from self._text(MISTRAL)):
            space = yield from self._tape.space()
            if self._tape.held[:1] in ("[", "{", ""):
                yield from self._marked(MISTRAL + space)
                continue
            name: list[str] = []
            mark = yield from self._tape.until((MISTRAL_ID, MISTRAL_ARGUMENTS, "{"), name.append)
            if mark == MISTRAL_ID:
                mark = yield from self._tape.until((MISTRAL_ARGUMENTS,), lambda _: None)
            if mark == "{":
                self._tape.held = mark + self._tape.held
            yield from self._call("".join(name), MISTRAL + space)

    def _deepseek(self) -> Reading[None]:
        opening, middle, closing = DEEPSEEK_CALL
        while (yield from self._text(DEEPSEEK[0])):
            while (yield from self._drop(opening)):
                head: list[str] = []
                yield from self._tape.until((middle,), head.append)
                if "".join(head).strip() == "function" and not (yield from self._tape.follows("{")):
                    head.clear()  # the kind came first; then the name on a line, then fenced arguments
                    yield from self._tape.until(("\n",), head.append)
                    _ = (yield from self._drop(f"{FENCE}json")) or (yield from self._drop(FENCE))
                yield from self._call("".join(head), opening)
                yield from self._drop(FENCE)
                yield from self._drop(closing)
            yield from self._drop(DEEPSEEK[1])

    def _llama3(self) -> Reading[None]:
        yield from self._bare("")
        while (yield from self._text(PYTHON_TAG)):
            yield from self._bare(self._gap + PYTHON_TAG)

    def _json(self) -> Reading[None]:
        lead = yield from self._tape.space()
        for fence in (f"{FENCE}json\n", f"{FENCE}\n"):
            if (yield from self._tape.follows(fence)):
                lead += self._tape.take(len(fence))
                break
        yield from self._bare(lead)
        if self.called:
            yield from self._drop(FENCE)
        yield from self._text("")

    # ---- parts of formats

    def _text(self, mark: str) -> Reading[bool]:
        """Content up to `mark` (none: to the end). White space before a mark, and after the last call, is dropped."""
        self._gap = ""
        found = yield from self._tape.until((mark,) if mark else (), self._say)
        if not found and not self.called:
            self._content.append(self._gap)
        return bool(found)

    def _say(self, text: str) -> None:
        kept = text.rstrip()
        if kept:
            self._content.append(self._gap + kept)
            self._gap = ""
        self._gap += text[len(kept) :]

    def _drop(self, mark: str) -> Reading[bool]:
        """Take `mark` and the white space before it, where it comes next."""
        space = yield from self._tape.space()
        if (yield from self._tape.follows(mark)):
            self._tape.take(len(mark))
            return True
        self._tape.held = space + self._tape.held
        return False

    def _marked(self, mark: str) -> Reading[bool]:
        """Calls after a mark, whatever they name; what is none is content, with the mark."""
        no_call = yield from self._objects(None)
        if no_call is not None:
            self._content.append(self._gap + mark + no_call)
        return no_call is None

    def _bare(self, lead: str) -> Reading[None]:
        """Calls without a mark of their own: only those of functions that exist count."""
        while (no_call := (yield from self._objects(self._names))) is None:
            lead = ""
            while not (rest := self._tape.held.lstrip(_SEPARATORS)):
                self._tape.held = ""
                if not (yield from self._tape.more()):
                    return
            self._tape.held = rest
            if rest[0] not in "{[":
                return
        self._content.append(lead + no_call)

    def _objects(self, names: Collection[str] | None) -> Reading[str | None]:
        """A call, or a list of them. None, or the text of what is no call."""
        space = yield from self._tape.space()
        if self._tape.held[:1] == "{":
            no_call = yield from self._object(names)
            return None if no_call is None else space + no_call
        if self._tape.held[:1] != "[":
            return space
        begun, before = space + self._tape.take(1), self._count
        while True:
            begun += yield from self._tape.space()
            if self._tape.held[:1] != "{":
                break
            no_call = yield from self._object(names)
            if no_call is not None:
                return begun + no_call
            begun = yield from self._tape.space()
            if self._tape.held[:1] == ",":
                begun += self._tape.take(1)
        if self._count > before and self._tape.held[:1] in ("]", ""):
            self._tape.take(1)
            return None
        return begun

    def _object(self, names: Collection[str] | None) -> Reading[str | None]:
        """One call as a JSON object. None, or the text so far of what is none."""
        call = _CallObject(self, names)
        return (yield from call.read(self._tape))

    def _call(self, name: str, verbatim: str) -> Reading[None]:
        """A call whose name is known and whose arguments come next; content when that is no name."""
        if not _NAME.fullmatch(name.strip()):
            self._content.append(self._gap + verbatim + name)
            return
        yield from self._tape.space()
        self.begin(name.strip())
        if self._tape.held[:1] == "{":
            whole = yield from self._tape.value(self.extend)
        else:
            whole = bool(self._tape.held)
        if whole:
            self.end()

    # ---- what a call tells

    def begin(self, name: str) -> None:
        self._changes.append(CallDelta(self._count, self._id(), name))
        self._count += 1
        self._wrote = False

    def extend(self, arguments: str) -> None:
        if arguments:
            self._wrote = True
            self._changes.append(CallDelta(self._count - 1, arguments=arguments))

    def end(self) -> None:
        if not self._wrote:
            self.extend("{}")
        if not self._parallel:
            self.finished = True
            raise _Finished


class _CallObject:
    """Reads {"name": …, "arguments": …} in any order of keys; arguments stream once the name is known."""

    def __init__(self, parser: ToolParser, names: Collection[str] | None) -> None:
        self._parser = parser
        self._names = names
        self._seen: list[str] = []
        self._name: str | None = None
        self._waiting: str | None = None  # arguments that came before the name
        self._begun = False

    def read(self, tape: Tape) -> Reading[str | None]:
        self._seen.append(tape.take(1))
        while True:
            self._seen.append((yield from tape.space()))
            if tape.held[:1] == "}":
                self._seen.append(tape.take(1))
                return self._closed()
            if tape.held[:1] == ",":
                self._seen.append(tape.take(1))
                continue
            if not (yield from self._pair(tape)):
                return self._broken()

    def _pair(self, tape: Tape) -> Reading[bool]:
        """A key and its value; False where this is no call, or the text has ended."""
        text: list[str] = []
        whole = tape.held[:1] == '"' and (yield from tape.value(text.append))
        self._seen.extend(text)
        key = _decoded("".join(text)) if whole else None
        if not isinstance(key, str):
            return False
        self._seen.append((yield from tape.space()))
        if tape.held[:1] != ":" or (self._names is not None and key not in _KEYS):
            return False
        self._seen.append(tape.take(1))
        self._seen.append((yield from tape.space()))
        if key in _ARGUMENTS and tape.held[:1] == "{" and self._name is not None and not self._begun:
            self._begin()
            return (yield from tape.value(self._parser.extend))
        value: list[str] = []
        whole = yield from tape.value(value.append)
        self._seen.extend(value)
        return whole and self._take(key, "".join(value))

    def _take(self, key: str, text: str) -> bool:
        """False where the value shows that this is no call."""
        value = _decoded(text)
        match key:
            case "name":
                self._name = value if isinstance(value, str) else None
                return self._name is not None and (self._names is None or self._name in self._names)
            case "function" if isinstance(value, dict):
                self._name = value.get("name") if isinstance(value.get("name"), str) else None
                self._waiting = _as_arguments(next((value[k] for k in _ARGUMENTS if k in value), None))
                return self._name is not None and (self._names is None or self._name in self._names)
            case "arguments" | "parameters":
                self._waiting = text if isinstance(value, dict) else _as_arguments(value)
        return True

    def _begin(self) -> None:
        self._parser.begin(self._name or "")
        self._begun = True

    def _closed(self) -> str | None:
        if not self._begun:
            if self._name is None or (self._waiting is None and self._names is not None):
                return "".join(self._seen)
            self._begin()
            self._parser.extend(self._waiting or "")
        self._parser.end()
        return None

    def _broken(self) -> str | None:
        """The text ended, or went on as no call does. What has been told of a call stays told."""
        return None if self._begun else "".join(self._seen)


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def _as_arguments(value: Any) -> str:
    """Arguments that did not come as an object: as text, which some models write, or none at all."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _long_id() -> str:
    return f"call_{secrets.token_hex(12)}"


def _short_id() -> str:
    """Mistral's templates take nine letters and digits, and nothing else."""
    return secrets.token_hex(5)[:9]


_FORMATS: dict[str, Callable[[ToolParser], Reading[None]]] = {
    "hermes": ToolParser._hermes,
    "llama3": ToolParser._llama3,
    "mistral": ToolParser._mistral,
    "deepseek": ToolParser._deepseek,
    "json": ToolParser._json,
}
