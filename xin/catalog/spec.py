"""The catalogue: built-in model families as data, one TOML file each, checked against these structs."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from importlib import resources
from typing import Any, Literal, TypeVar

import msgspec

from xin.errors import BadRequest

T = TypeVar("T", bound=msgspec.Struct)


class Shape(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A transformer's dimensions, from its published configuration; formulas of memory are made of them.

    head_dim    0: hidden / heads
    tied        the output head is the input embedding
    gated       the feed-forward part has three matrices, not two
    positions   rows of a learned position embedding
    experts     feed-forward parts of a layer (`ffn` is then one expert's width), and how many of them a token takes
    window      tokens that a sliding-window layer sees; every `full_every`-th layer sees all (0: none does)
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    vocabulary: int
    head_dim: int = 0
    tied: bool = False
    gated: bool = True
    positions: int = 0
    experts: int = 0
    experts_used: int = 0
    window: int = 0
    full_every: int = 0


class Source(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Where weights come from.

    built-in     none are needed
    bundled      `file` inside the installed Python package `package`
    file         `path` on this machine: a .gguf, or a folder of safetensors
    huggingface  the files of `repo` at `revision` that the glob `file` names; an empty one: the whole repository.
                 `unverified`: nobody has looked whether the repository holds them
    """

    kind: Literal["built-in", "bundled", "huggingface", "file"]
    package: str = ""
    path: str = ""
    file: str = ""
    repo: str = ""
    revision: str = "main"
    unverified: bool = False


class Variant(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """One size, format and quantization of a family.

    kv_bytes_per_token  keys and values of one token in f16
    size_bytes          of its files; 0 = not known
    remote_code         its repository brings Python code without which the weights are of no use
    """

    format: str
    engine: str
    quantization: str = "none"
    size_in_billions: float | None = None
    kv_bytes_per_token: int = 0
    size_bytes: int = 0
    remote_code: bool = False
    source: Source


class VariantGroup(Variant, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """As files have them: one entry for all `quantizations` of a repository.

    In `source.file`, {quantization} stands for each of them, {quantization_lower} for it in small letters.
    """

    quantizations: list[str] = []


class Published(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """What a table of others told of a PyTorch model's memory, kept as it stood: `mib`, or in words why there is none.

    `platform`: linux or macos.
    """

    year: int
    platform: Literal["linux", "macos"]
    size_in_billions: float
    quantization: str
    mib: int = 0
    words: str = ""

    def __str__(self) -> str:
        told = ", ".join(filter(None, (f"{self.mib} MiB" if self.mib else "", self.words)))
        return f"{self.year} on {self.platform}: {told}"


class Fetch(msgspec.Struct, kw_only=True, frozen=True):
    """What must be downloaded before a launch: the files of a repository that one of the globs names.

    Without globs, what `xin.node.quantization_choice.chosen_files` takes of the repository's list.
    """

    repo: str
    revision: str = "main"
    files: list[str] = []


class Family(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A model by its name.

    files        globs over names of .gguf files that are this model, for launches by path
    base_files   globs over names of .gguf files that are its base model, which cannot chat
    prompt_style named prompt builder for files without a chat template of their own
    sampling     what its makers advise where a request leaves a setting out
    shapes       by size: f"{size_in_billions:g}"
    notes        what a person should know before taking it, one sentence each
    published    memory as tables of others told it
    released     year and month, as 2025-04; "" = not known here, and then it is not recommended
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
    shapes: dict[str, Shape] = {}
    notes: list[str] = []
    published: list[Published] = []
    released: str = ""
    variants: Sequence[Variant]


class FamilyFile(Family, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A family as its file has it."""

    variants: Sequence[VariantGroup]


class ModelSpec(msgspec.Struct, kw_only=True):
    """What a launch resolves to; two launches of equal specs and options are the same model.

    `weights` are paths on this machine; they are [] while there is something to `fetch` first.
    A `context_length` of 0 and empty abilities mean: the file tells.
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
    fetch: Fetch | None = None
    prompt_style: dict[str, Any] | None = None
    chat_sibling: str | None = None
    sampling: dict[str, float | int] = {}


def families() -> dict[str, Family]:
    """All families by name: the built-in ones, then those that the user has registered. Reads the disk."""
    from xin.catalog.registered import registered_families  # it is made of what this module has

    return {**built_in_families(), **registered_families()}


@functools.cache
def built_in_families() -> dict[str, Family]:
    """By name. A file that breaks the schema is a defect and raises."""
    files = (file for file in resources.files("xin.catalog").iterdir() if file.name.endswith(".toml"))
    read = (read_family(file.read_bytes(), file.name) for file in files)
    return {family.name: family for family in sorted(read, key=lambda family: family.name)}


def read_family(text: bytes, where: str) -> Family:
    """A family from TOML. BadRequest names the file and the field."""
    try:
        found = msgspec.toml.decode(text, type=FamilyFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BadRequest(f"{where}: {exc}", "docs/models.md tells the fields", param="model") from exc
    return family_of(found)


def family_of(found: FamilyFile) -> Family:
    """With each quantization a variant of its own."""
    variants = [variant for group in found.variants for variant in _expanded(group, found.shapes)]
    return _as(Family, found, variants=variants)


def family_of_file(file_name: str) -> Family | None:
    """The family that a .gguf file belongs to, by its name."""
    return _of_file(file_name, "files")


def chat_sibling_of_file(file_name: str) -> str | None:
    """The name of the chat model beside a base model's .gguf file."""
    if family := family_of_file(file_name):
        return family.chat_sibling
    family = _of_file(file_name, "base_files")
    return family.name if family else None


def _of_file(file_name: str, field: Literal["files", "base_files"]) -> Family | None:
    """By the longest glob that fits: it says most."""
    name = file_name.lower()
    fitting = (
        (len(glob), family)
        for family in families().values()
        for glob in getattr(family, field)
        if fnmatchcase(name, glob.lower())
    )
    return max(fitting, key=lambda fit: fit[0], default=(0, None))[1]


def _expanded(group: VariantGroup, shapes: dict[str, Shape]) -> Iterator[Variant]:
    kv_bytes = group.kv_bytes_per_token
    if not kv_bytes and (shape := shapes.get(f"{group.size_in_billions or 0:g}")):
        kv_bytes = 4 * shape.layers * shape.kv_heads * (shape.head_dim or shape.hidden // shape.heads)
    for quantization in group.quantizations or [group.quantization]:
        file = group.source.file.replace("{quantization}", quantization)
        file = file.replace("{quantization_lower}", quantization.lower())
        source = msgspec.structs.replace(group.source, file=file)
        yield _as(Variant, group, source=source, quantization=quantization, kv_bytes_per_token=kv_bytes)


def _as(kind: type[T], given: msgspec.Struct, **changed: Any) -> T:
    """The fields that both kinds have."""
    names = kind.__struct_fields__
    return kind(**{name: changed.get(name, getattr(given, name)) for name in names})
