"""The keys in force where the focus is, as the help and the palette tell them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import Screen

GROUP_OF_APP = "Everywhere"
GROUP_OF_TEXT = "Editing text"


@dataclass(slots=True, frozen=True)
class Act:
    """An action, whose node runs it, under which heading it is told, and its keys as they are written."""

    node: DOMNode
    binding: Binding
    group: str
    keys: str
    enabled: bool


def acts(screen: Screen[Any]) -> list[Act]:
    """Each action once, with all its keys: the nearest to the focus first, what Textual's own widgets can do last."""
    found: dict[tuple[int, str], list[tuple[DOMNode, Binding, bool]]] = {}
    for active in screen.active_bindings.values():
        if not active.binding.system:
            place = found.setdefault((id(active.node), active.binding.action), [])
            place.append((active.node, active.binding, active.enabled))
    made = []
    for entries in found.values():
        node, binding, enabled = entries[0]
        keys = " ".join(dict.fromkeys(screen.app.get_key_display(one) for _, one, _ in entries))
        made.append(Act(node, binding, _group(node, binding), keys, enabled))
    chain = list(screen.focused.ancestors_with_self) if screen.focused is not None else [screen, screen.app]
    ours = sorted(made, key=lambda act: chain.index(act.node) if act.node in chain else len(chain))
    return sorted(ours, key=lambda act: act.binding.id is None)


def _group(node: DOMNode, binding: Binding) -> str:
    """All of ours have an id."""
    if binding.id is None:
        from textual.widgets import Input, TextArea

        if isinstance(node, Input | TextArea):
            return GROUP_OF_TEXT
    return group_of(node)


def group_of(node: DOMNode) -> str:
    if isinstance(node, App):
        return GROUP_OF_APP
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(node).__name__.removesuffix("Screen"))
    return node.BINDING_GROUP_TITLE or words.capitalize()
