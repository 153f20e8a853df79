"""What the plan changes of a launch that does not fit as it is: only options that the launch leaves open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SMALL_UBATCH = 128
SMALL_CACHE = "q8_0"
SHORTER = (4096, 2048)


@dataclass(frozen=True, slots=True)
class Choice:
    """`options` come on top of the launch's; `notes` tell the person."""

    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def alternatives(options: Mapping[str, Any], window: int) -> list[dict[str, Any]]:
    """The one that changes least first, each with all changes of those before. `window`: of the launch as it is."""
    made: list[dict[str, Any]] = []
    changes: dict[str, Any] = {}
    if "n_ubatch" not in options and options.get("n_batch", SMALL_UBATCH) >= SMALL_UBATCH:
        made.append(changes := {**changes, "n_ubatch": SMALL_UBATCH})
    if "kv_cells" not in options:
        made.append(changes := {**changes, "kv_cells": window})
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
        "cache_type_k": "keeps keys and values in {} (cache_type_k, cache_type_v)",
        "context_length": "has a context of {} tokens (context_length)",
    }
    return [f"{words[key].format(chosen[key])}, to fit in the {free} that are free" for key in words if key in chosen]
