"""Keys set by their owner in tui.toml: which ids exist, and where two actions now want one key."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module

from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import ModalScreen


def load_everything() -> None:
    """Import whatever has keys, so that every id is known. Takes a moment: do it in a thread."""
    for package in ("screens", "dialogs", "widgets"):
        parent = import_module(f"xin.tui.{package}")
        for module in pkgutil.iter_modules(parent.__path__):
            import_module(f"xin.tui.{package}.{module.name}")


def known(roots: Iterable[type[DOMNode]] = (DOMNode,)) -> dict[str, list[tuple[type[DOMNode], Binding]]]:
    """Every binding of xin's classes by its id."""
    found: dict[str, list[tuple[type[DOMNode], Binding]]] = {}
    for kind in set(_descendants(roots)):
        if kind.__module__.startswith("xin."):
            for binding in Binding.make_bindings(kind.__dict__.get("BINDINGS", ())):
                if binding.id:
                    found.setdefault(binding.id, []).append((kind, binding))
    return found


def faults(keymap: Mapping[str, str]) -> list[str]:
    """What is wrong with it, a line each: ids that do not exist, and keys that two actions want."""
    ids = known()
    told = [f"keymap: {wanted}: there is no action of this id" for wanted in sorted(set(keymap) - set(ids))]
    for wanted in sorted(set(keymap) & set(ids)):
        for key in _keys(keymap[wanted]):
            for other in sorted(_rivals(wanted, key, keymap, ids)):
                told.append(f"keymap: {key}: both {wanted} and {other}; the nearer to the focus wins")
    return told


def _rivals(
    wanted: str, key: str, keymap: Mapping[str, str], ids: Mapping[str, list[tuple[type[DOMNode], Binding]]]
) -> set[str]:
    kinds = [kind for kind, _ in ids[wanted]]
    found = set()
    for other, places in ids.items():
        for kind, binding in places:
            keys = _keys(keymap.get(other, binding.key))
            if other != wanted and key in keys and any(_meet(kind, mine) for mine in kinds):
                found.add(other)
    return found


def _meet(one: type[DOMNode], other: type[DOMNode]) -> bool:
    """Whether keys of both can be in force at once, as far as the classes tell. In a dialog the app's are not."""
    everywhere = (issubclass(one, App) or issubclass(other, App)) and not issubclass(one, ModalScreen)
    return (everywhere and not issubclass(other, ModalScreen)) or issubclass(one, other) or issubclass(other, one)


def _keys(text: str) -> set[str]:
    return {key.strip() for key in text.split(",") if key.strip()}


def _descendants(roots: Iterable[type[DOMNode]]) -> Iterator[type[DOMNode]]:
    for kind in roots:
        yield kind
        yield from _descendants(kind.__subclasses__())
