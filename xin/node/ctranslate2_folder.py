"""A folder in CTranslate2's format, as faster-whisper loads it: config.json, tokenizer.json and model.bin."""

from __future__ import annotations

from pathlib import Path

from xin.errors import BadRequest

FORMAT, ENGINE = "ctranslate2", "faster-whisper"
WEIGHTS = "model.bin"
# What a repository's folder is loaded from.
REPO_FILES = ("model.bin", "config.json", "tokenizer.json", "vocabulary.*", "preprocessor_config.json")
_NEEDED = ("config.json", "tokenizer.json", WEIGHTS)
# A .bin may be PyTorch's too: only CTranslate2's folders have the vocabulary beside it.
_VOCABULARIES = ("vocabulary.txt", "vocabulary.json")


def is_complete(folder: Path) -> bool:
    """Whether it can be loaded, as far as its file names tell. Blocking."""
    return _has_vocabulary(folder) and not _lacking(folder)


def is_meant(folder: Path) -> bool:
    """Whether it is of this format, whole or not. Blocking."""
    return _has_vocabulary(folder) and _is_file(folder / WEIGHTS)


def checked(folder: Path) -> Path:
    """The folder, if it can be loaded. Raises BadRequest with what it lacks. Blocking."""
    if lacking := _lacking(folder):
        message = f"{folder} has no {', '.join(lacking)}"
        raise BadRequest(message, "give the whole folder of a Whisper model for CTranslate2", param="model_path")
    return folder


def _lacking(folder: Path) -> list[str]:
    return [name for name in _NEEDED if not _is_file(folder / name)]


def _has_vocabulary(folder: Path) -> bool:
    return any(_is_file(folder / name) for name in _VOCABULARIES)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
