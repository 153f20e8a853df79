"""What the plan changes of a launch that does not fit as it is: only options that the launch leaves open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xin.catalog.spec import ModelSpec

SMALL_UBATCH = 128
SMALL_CACHE = "q8_0"
SHORTER = (4096, 2048)


@dataclass(frozen=True, slots=True)
class Choice:
    """`options` come on top of the launch's, `spec` in place of its own; `notes` tell the person.

    `lacks`: bytes without which the launch gets less than it asked for, and not only a smaller reserve.
    """

    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    spec: ModelSpec | None = None
    lacks: int = 0


def alternatives(options: Mapping[str, Any], window: int, slides: bool = False) -> list[dict[str, Any]]:
    """The one that changes least first, each with all changes of those before.

    `window`: of the launch as it is. `slides`: the model has sliding-window layers.
    """
    made: list[dict[str, Any]] = []
    changes: dict[str, Any] = {}
    if "n_ubatch" not in options and options.get("n_batch", SMALL_UBATCH) >= SMALL_UBATCH:
        made.append(changes := {**changes, "n_ubatch": SMALL_UBATCH})
    if "kv_cells" not in options:
        made.append(changes := {**changes, "kv_cells": window})
    if slides and "swa_full" not in options:
        made.append(changes := {**changes, "swa_full": False})
    if not {"cache_type_k", "cache_type_v"} & options.keys() and options.get("flash_attn") != "off":
        made.append(changes := {**changes, "cache_type_k": SMALL_CACHE, "cache_type_v": SMALL_CACHE})
    if "context_length" not in options:
        for shorter in (length for length in SHORTER if length < window):
            changes = {**changes, "context_length": shorter}
            made.append(changes := {**changes, "kv_cells": shorter} if "kv_cells" in changes else changes)
    return made


def told(chosen: Mapping[str, Any], free: str) -> list[str]:
    """One sentence for each thing that was chosen."""
    words = {
        "n_ubatch": "reads prompts in smaller pieces (n_ubatch {})",
        "kv_cells": "keeps {} tokens of all requests together (kv_cells)",
        "swa_full": "keeps of its sliding windows only what they see (swa_full {})",
        "cache_type_k": "keeps keys and values in {} (cache_type_k, cache_type_v)",
        "context_length": "has a context of {} tokens (context_length)",
    }
    return [f"{words[key].format(chosen[key])}, to fit in the {free} that are free" for key in words if key in chosen]


def shortens(change: Mapping[str, Any]) -> bool:
    """Would the model see less of a conversation?"""
    return "context_length" in change


def lessens(choice: Choice) -> bool:
    """Are answers other than those that were asked for?"""
    return choice.spec is not None or bool({"cache_type_k", "context_length"} & choice.options.keys())
