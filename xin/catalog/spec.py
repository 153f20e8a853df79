"""The catalogue: built-in model families as data, one TOML file each, checked against these structs."""

from __future__ import annotations

import functools
from fnmatch import fnmatchcase
from importlib import resources
from typing import Any, Literal

import msgspec


class Source(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Where weights come from: `built-in` needs none, `bundled` is a file inside an installed Python package."""

    kind: Literal["built-in", "bundled"]
    package: str = ""
    file: str = ""


class Variant(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """One size, format and quantization of a family. `kv_bytes_per_token`: keys and values of one token in f16."""

    format: str
    engine: str
    quantization: str = "none"
    size_in_billions: float | None = None
    kv_bytes_per_token: int = 0
    source: Source


class Family(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A model by its name.

    files        globs over names of .gguf files that are this model, for launches by path
    base_files   globs over names of .gguf files that are its base model, which cannot chat
    prompt_style named prompt builder for files without a chat template of their own
    sampling     what its makers advise where a request leaves a setting out
    """

    name: str
    description: str
    languages: list[str] = []
    abilities: list[str] = []
    context_length: int = 0
    prompt_style: dict[str, Any] | None = None
    chat_sibling: str | None = None
    sampling: dict[str, float | int] = {}
    files: list[str] = []
    base_files: list[str] = []
    variants: list[Variant]


class ModelSpec(msgspec.Struct, kw_only=True):
    """What a launch resolves to; two launches of equal specs and options are the same model.

    `weights` are paths on this machine. A `context_length` of 0 and empty abilities mean: the file tells.
    """

    name: str
    engine: str
    format: str
    quantization: str = "none"
    size_in_billions: float | None = None
    abilities: list[str] = []
    languages: list[str] = []
    context_length: int = 0
    weights: list[str] = []
    prompt_style: dict[str, Any] | None = None
    chat_sibling: str | None = None
    sampling: dict[str, float | int] = {}


@functools.cache
def families() -> dict[str, Family]:
    """All built-in families by name. A file that breaks the schema is a defect and raises."""
    decoded = (
        msgspec.toml.decode(file.read_bytes(), type=Family)
        for file in sorted(resources.files("xin.catalog").iterdir(), key=lambda file: file.name)
        if file.name.endswith(".toml")
    )
    return {family.name: family for family in decoded}


def family_of_file(file_name: str) -> Family | None:
    """The family that a chat model's .gguf file belongs to, by its name."""
    return _first(file_name, "files")


def chat_sibling_of_file(file_name: str) -> str | None:
    """The name of the chat model beside a base model's .gguf file."""
    if family_of_file(file_name):
        return None
    family = _first(file_name, "base_files")
    return family.name if family else None


def _first(file_name: str, field: Literal["files", "base_files"]) -> Family | None:
    name = file_name.lower()
    for family in families().values():
        if any(fnmatchcase(name, glob.lower()) for glob in getattr(family, field)):
            return family
    return None
