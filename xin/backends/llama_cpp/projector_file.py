"""Which projector belongs to a model: the one that was named, else the one beside it.

Publishers put it into the model's folder, as mmproj-F16.gguf, mmproj-model-f16.gguf or mmproj-<model>-f16.gguf.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

WITHOUT = "none"
_BEST_FIRST = ("f16", "bf16", "q8_0", "f32")
_KIND = re.compile(r"(?<![a-z0-9])(bf16|f16|f32|q8_0)(?![a-z0-9])")
_WORD = re.compile(r"[a-z0-9]+")
_OF_NO_MODEL = {"mmproj", "model", "gguf"}


def projector_of(weights: str, wanted: str | None) -> str | None:
    """The path of the file; None for none. `wanted`: the option `mmproj`. Reads the folder of `weights`, blocking."""
    if wanted is not None:
        return None if wanted == WITHOUT else wanted
    path = Path(weights)
    try:
        names = [other.name for other in path.parent.iterdir()]
    except OSError:
        return None
    found = projector_among(path.name, names)
    return None if found is None else str(path.with_name(found))


def projector_among(model: str, names: Sequence[str]) -> str | None:
    """Of the file names of a folder the one that goes with `model`.

    One that names no model does where all models of the folder begin with the same word.
    """
    files = [name for name in names if name.lower().endswith(".gguf")]
    projectors = [name for name in files if is_projector(name)]
    words = _words(model)
    kin = (
        {_words(name)[0] for name in files if not is_projector(name) and _words(name)} | {words[0]} if words else set()
    )
    fitting = [
        name
        for name in projectors
        if (named := set(_words(name)) - _OF_NO_MODEL) <= set(words) and (named or len(kin) == 1)
    ]
    return min(fitting, key=lambda name: (-len(_words(name)), _grade(name), name), default=None)


def is_projector(name: str) -> bool:
    return "mmproj" in _WORD.findall(name.lower())


def _words(name: str) -> list[str]:
    return _WORD.findall(_KIND.sub("", name.lower()))


def _grade(name: str) -> int:
    kind = _KIND.search(name.lower())
    return _BEST_FIRST.index(kind[1]) if kind else len(_BEST_FIRST)
