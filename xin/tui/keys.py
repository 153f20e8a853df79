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


@dataclass(slots=True, frozen=True)
class Act:
    """An action, whose node runs it, under which heading it is told, and its keys as they are written."""

    node: DOMNode
    binding: Binding
    group: str
    keys: str
    enabled: bool


def acts(screen: Screen[Any]) -> list[Act]:
    """Each action once, with all its keys, the nearest to the focus first."""
    found: dict[tuple[int, str], list[tuple[DOMNode, Binding, bool]]] = {}
    for active in screen.active_bindings.values():
        if not active.binding.system:
            place = found.setdefault((id(active.node), active.binding.action), [])
            place.append((active.node, active.binding, active.enabled))
    made = []
    for entries in found.values():
        node, binding, enabled = entries[0]
        keys = " ".join(dict.fromkeys(screen.app.get_key_display(one) for _, one, _ in entries))
        made.append(Act(node, binding, group_of(node), keys, enabled))
    chain = list(screen.focused.ancestors_with_self) if screen.focused is not None else [screen, screen.app]
    return sorted(made, key=lambda act: chain.index(act.node) if act.node in chain else len(chain))


def group_of(node: DOMNode) -> str:
    if isinstance(node, App):
        return GROUP_OF_APP
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(node).__name__.removesuffix("Screen"))
    return node.BINDING_GROUP_TITLE or words.capitalize()
