"""What the command palette holds: every action that has a key here, and what has none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.app import SystemCommand
from textual.markup import escape
from textual.screen import Screen

from xin.tui.keys import Act, acts

if TYPE_CHECKING:
    from xin.tui.app import Workbench


def commands(app: Workbench, screen: Screen[Any]) -> Iterable[SystemCommand]:
    """Nearest to the focus first; an action is listed once."""
    for act in acts(screen):
        if act.binding.action not in ("command_palette", "app.command_palette"):
            yield SystemCommand(_title(act), _help(act), partial(app.run_action, act.binding.action, act.node))
    yield from _keyless(app)


def _keyless(app: Workbench) -> Iterator[SystemCommand]:
    yield SystemCommand("Change the theme", "Try the themes, those of your own folder too", app.action_change_theme)
    if not app.readonly:
        yield SystemCommand("Start a node here", "Run xin node on this machine", app.action_start_node)
    yield SystemCommand(
        "Save a picture of the screen", "An SVG file", lambda: app.set_timer(0.1, app.deliver_screenshot)
    )


def _title(act: Act) -> str:
    words = act.binding.tooltip or act.binding.description or act.binding.action
    return escape(words[:1].upper() + words[1:])


def _help(act: Act) -> str:
    return escape(f"{act.group}   key {act.keys}")
