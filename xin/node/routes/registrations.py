"""/v1/model_registrations in Xinference's shape: what can be launched, and the models that the user adds to it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from xin.catalog.registered import register, registered_families, unregister
from xin.catalog.spec import Family, Variant, built_in_families
from xin.errors import BadRequest, ModelNotFound, UnsupportedParameter
from xin.node.keys import MANAGER
from xin.node.registration import family_of_text
from xin.node.routes.body import flag, json_response, read_struct
from xin.protocol.node import LocalModel

_TYPE = "LLM"


class _Registration(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`model`: the text of a family, TOML or JSON. Without `persist` it is forgotten when the node ends."""

    model: str
    persist: bool = True
    worker_ip: str | None = None


async def list_all(request: web.Request) -> web.Response:
    """The catalogue, what is registered, and whatever else can be launched here, once per name."""
    if request.match_info["type"] != _TYPE:
        return json_response([])
    detailed = flag(request, "detailed")
    families, models = await _known(request)
    listed = [_of_family(family, models.get(name, []), detailed) for name, family in families.items()]
    others = [_of_models(name, found, detailed) for name, found in models.items() if name not in families]
    return json_response([*listed, *others])


async def get(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    families, models = await _known(request)
    if request.match_info["type"] != _TYPE or (name not in families and name not in models):
        raise ModelNotFound(f"there is no model {name!r} here", "GET /api/models lists them")
    if name in families:
        return json_response(_of_family(families[name], models.get(name, []), detailed=True))
    return json_response(_of_models(name, models[name], detailed=True))


async def create(request: web.Request) -> web.Response:
    """409 for the name of a built-in; what was registered under the name before is replaced."""
    _check_type(request)
    order = await read_struct(request, _Registration)
    if order.worker_ip:
        raise UnsupportedParameter("worker_ip is not supported", "register it on that node", param="worker_ip")
    await asyncio.shield(asyncio.to_thread(_register, order))
    return json_response(None)


async def delete(request: web.Request) -> web.Response:
    _check_type(request)
    await asyncio.shield(asyncio.to_thread(unregister, request.match_info["name"]))
    return json_response(None)


def _register(order: _Registration) -> None:
    register(family_of_text(order.model), persist=order.persist)


def _check_type(request: web.Request) -> None:
    if (kind := request.match_info["type"]) != _TYPE:
        raise BadRequest(f"models of type {kind[:40]!r} cannot be registered", "there is: LLM", param="model_type")


async def _known(request: web.Request) -> tuple[dict[str, Family], dict[str, list[LocalModel]]]:
    """Families by name, the user's first, and what is here by the name of its family, else by its own."""
    families = await asyncio.to_thread(lambda: {**registered_families(), **built_in_families()})
    models: dict[str, list[LocalModel]] = {}
    for model in await request.app[MANAGER].known_models():
        family = model.model_name.partition(":")[0]
        models.setdefault(family if family in families else model.model_name, []).append(model)
    return families, models


def _of_family(family: Family, here: list[LocalModel], detailed: bool) -> dict[str, Any]:
    built_in = family.name in built_in_families()
    found: dict[str, Any] = {"model_name": family.name, "is_builtin": built_in}
    if detailed:
        cached = {(one.model_format, one.model_size_in_billions, one.quantization) for one in here}
        found |= {
            "is_registered": not built_in,
            **_described(family.languages, family.abilities, family.context_length, family.description),
            "model_specs": [
                _spec(one, (one.format, one.size_in_billions, one.quantization) in cached) for one in family.variants
            ],
        }
    return found


def _of_models(name: str, models: list[LocalModel], detailed: bool) -> dict[str, Any]:
    first = models[0]
    found: dict[str, Any] = {"model_name": name, "is_builtin": False}
    if detailed:
        found |= {
            "is_registered": False,
            **_described(first.model_lang, first.model_ability, first.context_length, first.description),
            "model_specs": [
                {
                    "model_format": one.model_format,
                    "model_size_in_billions": one.model_size_in_billions,
                    "quantizations": [one.quantization],
                    "cache_status": [True],
                }
                for one in models
            ],
        }
    return found


def _described(languages: list[str], abilities: list[str], context_length: int, description: str) -> dict[str, Any]:
    return {
        "model_type": _TYPE,
        "model_lang": languages,
        "model_ability": abilities,
        "context_length": context_length,
        "model_description": description,
    }


def _spec(variant: Variant, cached: bool) -> dict[str, Any]:
    return {
        "model_format": variant.format,
        "model_size_in_billions": variant.size_in_billions,
        "quantizations": [variant.quantization],
        "model_id": variant.source.repo or None,
        "model_revision": variant.source.revision if variant.source.repo else None,
        "cache_status": [cached],
    }
