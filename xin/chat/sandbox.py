"""BoundedEnvironment: jinja2's immutable sandbox with an end to time and size, for templates that came with a model.

jinja2's own sandbox keeps a template from Python's internals; it does not keep it from nested loops or doubled strings.
"""

from __future__ import annotations

import functools
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from types import BuiltinMethodType
from typing import Any, NoReturn, TypeVar

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.filters import make_attrgetter
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_CHARS = 16 * 1024 * 1024  # of one text
MAX_MADE_CHARS = 512 * 1024 * 1024  # of all texts that one rendering makes
MAX_ITEMS = 1_000_000  # of a list that becomes text
MAX_WIDTH = 10_000  # of padding and indents
MAX_BITS = 4096  # of an integer
CPU_SECONDS = 1.0

# Filters whose result can be far larger than what goes in.
_GROWING = ("batch", "center", "indent", "pprint", "slice", "string", "tojson", "urlencode", "xmlattr")
_WIDE_FORMAT = re.compile(r"\d{5,}")
_WIDTH_FROM_VALUE = re.compile(r"%[^a-zA-Z]*\*|\{[^{}]*\{")
Node = TypeVar("Node", nodes.For, nodes.Macro, nodes.Block, nodes.CallBlock)


class LimitExceeded(TemplateError):
    """The template wants more time or memory than any prompt needs."""


class RaisedByTemplate(TemplateError):
    """The template called raise_exception: its own words on what is wrong with the messages."""


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """The names and settings that Hugging Face chat templates are written for; use `rendering()` around each render."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        extensions: list[str | type[Extension]] = ["jinja2.ext.loopcontrols", _GenerationTag]
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=extensions, cache_size=0)
        self.finalize = self._shown
        self._render = threading.local()
        self.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)
        self.filters["tojson"] = _tojson
        self.filters.update({name: _guarded(self.filters[name]) for name in _GROWING})
        self.filters.update(format=_format, join=self._join, replace=self._replace)

    @contextmanager
    def rendering(self) -> Iterator[None]:
        """Start this thread's clock and allowance."""
        self._render.deadline = time.thread_time() + CPU_SECONDS
        self._render.chars_left = MAX_MADE_CHARS
        yield

    # ---- called by compiled templates

    def tick(self) -> None:
        """Run at each pass of a loop and each call of a macro."""
        if time.thread_time() > self._render.deadline:
            raise LimitExceeded(f"it ran for more than {CPU_SECONDS:g} s")

    def concat(self, parts: Iterable[str]) -> str:
        """Joins what a template, macro or block put out."""
        found, size = [], 0
        for part in parts:
            size += len(part)
            if size > MAX_CHARS:
                raise LimitExceeded(f"it makes a text of more than {MAX_CHARS:,} characters")
            found.append(part)
        self._charge(size)
        return "".join(found)

    def joined(self, *values: Any) -> str:
        """The operator `~`."""
        return self.concat(str(self._shown(value)) for value in values)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and _sized(left) and _sized(right):
            self._charge(len(left) + len(right))
        elif operator == "*":
            self._check_product(left, right)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            if left.bit_length() * abs(right) > MAX_BITS:
                raise LimitExceeded("it computes a huge number")
        elif operator == "%" and isinstance(left, str):
            _check_items((right,))
            _check_format(left, right if isinstance(right, tuple) else (right,))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        values = (*args, *kwargs.values())
        name = getattr(__obj, "__name__", "")
        if not isinstance(__obj, Macro):
            _check_items(values)
        if name in ("format", "format_map"):
            _check_format(_formatted_by(__obj), values)
        elif isinstance(__obj, BuiltinMethodType):
            _check_widths(values)
            if name == "join" and isinstance(__obj.__self__, str) and args:
                return __self._join(args[0], __obj.__self__)
            if name == "replace" and isinstance(__obj.__self__, str) and len(args) > 1:
                return __self._replace(__obj.__self__, *args)
        return super().call(__context, __obj, *args, **kwargs)

    # ---- compiling

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Instrument().visit(super()._parse(source, name, filename))
        tree.set_environment(self)
        return tree

    # ---- bounds

    def _shown(self, value: Any) -> Any:
        """What is put out becomes text: a list that holds itself many times over must not."""
        _check_items((value,))
        return value

    def _charge(self, size: int) -> None:
        if size > MAX_CHARS:
            raise LimitExceeded(f"it makes a text of more than {MAX_CHARS:,} characters")
        self._render.chars_left -= size
        if self._render.chars_left < 0:
            raise LimitExceeded(f"it makes more than {MAX_MADE_CHARS:,} characters in all")

    def _check_product(self, left: Any, right: Any) -> None:
        if isinstance(left, int) and _sized(right):
            left, right = right, left
        if _sized(left) and isinstance(right, int):
            self._charge(len(left) * max(right, 0))
        elif isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > MAX_BITS:
            raise LimitExceeded("it computes a huge number")

    def _join(self, values: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
        """The filter `join`, and str.join."""
        if attribute is not None:
            values = map(make_attrgetter(self, attribute), values)
        texts = [str(self._shown(value)) for value in values]
        self._charge(sum(map(len, texts)) + len(d) * len(texts))
        return str(d).join(texts)

    def _replace(self, text: Any, old: str, new: str, count: int | None = None) -> str:
        """The filter `replace`, and str.replace."""
        text, old, new = str(self._shown(text)), str(old), str(new)
        times = text.count(old) if count is None or count < 0 else min(count, text.count(old))
        self._charge(len(text) + times * len(new))
        return str(text).replace(old, new, -1 if count is None else count)


class _Instrument(NodeTransformer):
    """Put a tick into everything that repeats, and `~` under our own roof."""

    def _ticking(self, node: Node) -> Node:
        self.generic_visit(node)
        call = nodes.Call(nodes.EnvironmentAttribute("tick"), [], [], None, None)
        node.body.insert(0, nodes.ExprStmt(call).set_lineno(node.lineno))
        return node

    visit_For = visit_Macro = visit_Block = visit_CallBlock = _ticking

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        joined = nodes.EnvironmentAttribute("joined")
        return nodes.Call(joined, node.nodes, [], None, None).set_lineno(node.lineno)


class _GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks what the assistant said, for training: here it is just its body."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _guarded(filter_: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(filter_)
    def run(*args: Any, **kwargs: Any) -> Any:
        _check_items(args)
        _check_widths((*args[1:], *kwargs.values()))
        return filter_(*args, **kwargs)

    return run


def _format(form: Any, *args: Any, **kwargs: Any) -> str:
    """The filter `format`: printf style."""
    values = (*args, *kwargs.values())
    _check_items(values)
    _check_format(str(form), values)
    return str(form) % (kwargs or args)


def _check_format(form: str, values: Iterable[Any]) -> None:
    """A width comes in the format, or as a value where the format has `*` or a brace in a brace."""
    if _WIDE_FORMAT.search(form):
        raise LimitExceeded("it pads a text beyond all measure")
    if _WIDTH_FROM_VALUE.search(form):
        _check_widths(values)


def _check_widths(values: Iterable[Any]) -> None:
    for value in values:
        if isinstance(value, int) and abs(value) > MAX_WIDTH:
            raise LimitExceeded("it pads a text beyond all measure")


def _check_items(values: Iterable[Any]) -> None:
    """Count everything inside, as often as it would be written out."""
    waiting, items, chars = [v for v in values if isinstance(v, list | tuple | dict)], 0, 0
    while waiting:
        here = waiting.pop()
        items += 1
        if isinstance(here, str):
            chars += len(here)
        elif isinstance(here, dict):
            waiting.extend(here.keys())
            waiting.extend(here.values())
        elif isinstance(here, list | tuple):
            waiting.extend(here)
        if items + len(waiting) > MAX_ITEMS or chars > MAX_CHARS:
            raise LimitExceeded("it writes out a list beyond all measure")


def _sized(value: Any) -> bool:
    return isinstance(value, str | bytes | list | tuple)


def _formatted_by(function: Any) -> str:
    """The text whose `format` this is, under jinja2's wrapper."""
    text = getattr(getattr(function, "__wrapped__", function), "__self__", "")
    return text if isinstance(text, str) else ""


def _raise_exception(message: object) -> NoReturn:
    raise RaisedByTemplate(str(message))


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """jinja2's own escapes HTML; a prompt is not HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
