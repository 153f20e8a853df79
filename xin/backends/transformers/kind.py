"""What a folder of weights is for, by its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

Kind = Literal["causal", "image-text", "speech", "embedding", "cross-encoder"]
_MAX_BYTES = 1 << 20
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")  # without one, only its text is read


def kind_of(path: str) -> Kind:
    """sentence-transformers writes modules.json; else the architecture in config.json tells."""
    folder = Path(path)
    if not folder.is_dir():
        return "causal"
    name = _architecture(folder / "config.json")
    if name == "WhisperForConditionalGeneration":
        return "speech"
    if name.endswith("ForSequenceClassification"):
        return "cross-encoder"
    if (folder / "modules.json").is_file() or (name.endswith(("Model", "ForMaskedLM")) and "LMHead" not in name):
        return "embedding"
    config = read_json(folder / "config.json")
    if (
        isinstance(config, dict)
        and "vision_config" in config
        and any((folder / name).is_file() for name in _PROCESSORS)
    ):
        return "image-text"
    return "causal"


def read_json(file: Path) -> Any:
    """{} for a file that is not there, is too large or is no JSON."""
    try:
        with file.open("rb") as opened:
            return json.loads(opened.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}


def _architecture(file: Path) -> str:
    config = read_json(file)
    named = config.get("architectures") if isinstance(config, dict) else None
    return str(named[0]) if isinstance(named, list) and named else ""
