"""Calls: how the tools of one request are read out of its answer, and what forces one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xin.backends.base import Engine
from xin.chat.tool_parser import MARKS, ToolParser
from xin.chat.tool_prompt import forced
from xin.errors import BadRequest, UnsupportedParameter
from xin.worker.frames import Constraint, Tools


@dataclass(slots=True)
class Calls:
    """`shown`: the control tokens that are marks of the format. A forced choice has a constraint, compiled."""

    tools: Tools
    format: str
    shown: frozenset[int] = frozenset()
    constraint: Constraint | None = None
    compiled: Any = None
    short_ids: bool = False

    def parser(self) -> ToolParser:
        """A new one: each choice has its own."""
        names = [str(tool["function"]["name"]) for tool in self.tools.given]
        return ToolParser(self.format, names, parallel=self.tools.parallel, short_ids=self.short_ids)


def calls_of(engine: Engine, tools: Tools) -> Calls:
    """Runs on the preparer thread. UnsupportedParameter where the engine or the model cannot."""
    format_ = engine.tool_format()
    short = format_ == "mistral"  # whose template refuses longer ones when they are sent back
    if tools.choice != "auto":
        constraint = forced(tools)
        try:
            return Calls(tools, "json", constraint=constraint, compiled=engine.compile(constraint), short_ids=short)
        except BadRequest as exc:  # the engine knows no tools: it speaks of the constraint
            asked = f"tool_choice {tools.name or tools.choice}: {exc.message}"
            raise type(exc)(asked, exc.hint, param="tool_choice") from exc
    if not format_:
        raise UnsupportedParameter(
            "tools: the way in which this model's template writes calls is not read here",
            'set tool_choice to "required", or to one function',
            param="tools",
        )
    ids = [engine.tokenize(mark, False, True) for mark in MARKS[format_]]
    return Calls(tools, format_, frozenset(one[0] for one in ids if len(one) == 1), short_ids=short)
