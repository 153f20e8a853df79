"""From the text of a registration to a family: TOML or JSON in the catalogue's schema, or Xinference's JSON."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from xin.catalog.registered import MAX_BYTES
from xin.catalog.spec import Family, FamilyFile, Source, Variant, family_of
from xin.errors import BadRequest, TooLarge, UnsupportedParameter
from xin.node.local_models import GGUF_ENGINE
from xin.node.safetensors_folder import ENGINE as PYTORCH_ENGINE
from xin.node.weights_found import GGUF, PYTORCH
from xin.node.weights_huggingface import REPO

_ABILITIES = {"chat", "generate", "embed", "rerank"}
_FORMATS = {"pytorch": (PYTORCH, PYTORCH_ENGINE), "ggufv2": (GGUF, GGUF_ENGINE), "gguf": (GGUF, GGUF_ENGINE)}
# Fields of Xinference's families that say nothing here.
_OF_NO_USE = {"version", "model_type", "model_family", "is_builtin", "model_hub", "download_hubs", "cache_status"}
_FAMILY_FIELDS = {
    *("model_name", "model_description", "context_length", "model_lang", "model_ability", "model_specs"),
    *("prompt_style", "stop", "stop_token_ids"),
}
_SPEC_FIELDS = {
    *("model_format", "model_size_in_billions", "quantizations", "quantization", "model_id", "model_revision"),
    *("model_uri", "model_file_name_template", "model_hub", "model_src"),
}
_HINTS = {
    "chat_template": "leave it out: the model's own template is used; a launch takes another as option chat_template",
    "model_format": "there is: pytorch, ggufv2",
}


def family_of_text(text: str) -> Family:
    """Raises BadRequest naming the field, UnsupportedParameter for what has no counterpart here."""
    if len(text) > MAX_BYTES:
        raise TooLarge(f"the registration has {len(text)} characters", "a family takes a few hundred")
    described = _parsed(text)
    family = _from_xinference(described) if "model_specs" in described else _from_ours(described)
    for variant in family.variants:
        _check_source(variant.source)
    return family


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, UnicodeError, RecursionError) as exc:
        raise BadRequest(f"it is neither JSON nor TOML: {exc}", "docs/models.md has an example", param="model") from exc
    if not isinstance(found, dict):
        raise BadRequest("it is no JSON object", "docs/models.md has an example", param="model")
    return found


def _from_ours(described: dict[str, Any]) -> Family:
    try:
        return family_of(msgspec.convert(described, FamilyFile))
    except msgspec.ValidationError as exc:
        raise BadRequest(f"it is not a model family: {exc}", "docs/models.md has an example", param="model") from exc


def _from_xinference(described: dict[str, Any]) -> Family:
    _refuse_others(described, _FAMILY_FIELDS | _OF_NO_USE, "")
    abilities = _value(described, "model_ability", list[str], [])
    for ability in abilities:
        if ability not in _ABILITIES:
            raise UnsupportedParameter(f"model_ability {ability!r} has no counterpart here", param="model_ability")
    specs = _value(described, "model_specs", list[dict[str, Any]], [])
    return Family(
        name=_value(described, "model_name", str, ""),
        description=_value(described, "model_description", str | None, None) or "registered",
        languages=_value(described, "model_lang", list[str], []),
        abilities=abilities,
        context_length=_value(described, "context_length", int | None, None) or 0,
        prompt_style=_prompt_style(described),
        variants=[variant for i, spec in enumerate(specs) for variant in _variants(spec, f"model_specs[{i}]")],
    )


def _prompt_style(described: dict[str, Any]) -> dict[str, Any] | None:
    """Stops stand in it; without a style there is nothing here that they could be part of."""
    style: dict[str, Any] | None = _value(described, "prompt_style", dict[str, Any] | None, None)
    for name in ("stop", "stop_token_ids"):
        if stops := described.get(name):
            if style is None:
                hint = "leave it out: the model's own end tokens are used"
                raise UnsupportedParameter(f"{name} needs a prompt_style", hint, param=name)
            style = {**style, name: stops}
    return style


def _variants(spec: dict[str, Any], where: str) -> list[Variant]:
    """One for each quantization."""
    if isinstance(spec.get("model_src"), dict):
        source = spec["model_src"].get("huggingface")
        if not isinstance(source, dict):
            raise UnsupportedParameter("model_src has no huggingface", param=f"{where}.model_src")
        spec = {**{key: value for key, value in spec.items() if key != "model_src"}, **source}
    _refuse_others(spec, _SPEC_FIELDS | _OF_NO_USE, f"{where}.")
    given = _value(spec, "model_format", str, "")
    if given not in _FORMATS:
        raise UnsupportedParameter(
            f"no engine here loads {given!r}", _HINTS["model_format"], param=f"{where}.model_format"
        )
    format, engine = _FORMATS[given]
    single = _value(spec, "quantization", str | None, None)
    quantizations = _value(spec, "quantizations", list[str] | None, None) or ([single] if single else ["none"])
    return [
        Variant(
            format=format,
            engine=engine,
            quantization=quantization,
            size_in_billions=_size(spec, where),
            source=_source(spec, format, quantization, where),
        )
        for quantization in quantizations
    ]


def _source(spec: dict[str, Any], format: str, quantization: str, where: str) -> Source:
    template = _value(spec, "model_file_name_template", str | None, None) or ""
    file = template.replace("{quantization}", quantization)
    if uri := _value(spec, "model_uri", str | None, None):
        split = urlsplit(uri)
        if split.scheme not in ("", "file") or split.netloc:
            raise UnsupportedParameter(f"model_uri {uri!r} is not a local path", param=f"{where}.model_uri")
        path = Path(unquote(split.path)).expanduser()
        return Source(kind="file", path=str(path / file if file and path.suffix != ".gguf" else path))
    if _value(spec, "model_hub", str | None, None) not in (None, "huggingface"):
        raise UnsupportedParameter(f"model_hub {spec['model_hub']!r} is not supported", param=f"{where}.model_hub")
    repo = _value(spec, "model_id", str | None, None) or ""
    revision = _value(spec, "model_revision", str | None, None) or "main"
    if format == GGUF and not file:
        raise BadRequest("which file of the repository is not said", param=f"{where}.model_file_name_template")
    return Source(kind="huggingface", repo=repo, revision=revision, file=file, unverified=True)


def _size(spec: dict[str, Any], where: str) -> float | None:
    """`7`, `1_8`, `"1.8"`."""
    given = _value(spec, "model_size_in_billions", int | float | str | None, None)
    try:
        return None if given is None else float(str(given).replace("_", "."))
    except ValueError:
        raise BadRequest(f"{given!r} is not a size in billions", param=f"{where}.model_size_in_billions") from None


def _check_source(source: Source) -> None:
    if source.kind == "huggingface":
        if not REPO.fullmatch(source.repo):
            raise BadRequest(f"{source.repo[:140]!r} is not ORG/REPO", "as the hub writes it", param="repo")
    elif source.kind != "file":
        raise BadRequest(f"a source of kind {source.kind} cannot be registered", "take huggingface or file")
    elif not Path(source.path).is_absolute():
        raise BadRequest(f"{source.path} is not a whole path", "give the path from / on", param="path")


def _refuse_others(given: dict[str, Any], known: set[str], prefix: str) -> None:
    """What is empty asks for nothing."""
    for name, value in given.items():
        if name not in known and value not in (None, "", [], {}, False):
            hint = _HINTS.get(name, f"leave {name} out")
            raise UnsupportedParameter(f"{prefix}{name} has no counterpart here", hint, param=f"{prefix}{name}")


def _value(given: dict[str, Any], name: str, kind: Any, default: Any) -> Any:
    if name not in given:
        return default
    try:
        return msgspec.convert(given[name], kind)
    except msgspec.ValidationError as exc:
        raise BadRequest(f"{name}: {exc}", param=name) from exc
