"""JSON schemas made fit for generation: what a grammar leaves open, a small model fills without end."""

from __future__ import annotations

from typing import Any

import msgspec

from xin.errors import BadRequest

PARAM = "response_format"
SAFE_INTEGER = 2**53 - 1  # RFC 7493, section 2.2; without a bound a small model writes digits without end

# Keywords that hold schemas: by name, in a list, or one.
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_LISTED = ("anyOf", "oneOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "additionalItems")
_BESIDE_REF = frozenset({"$ref", "title", "description", "default", "examples", "$comment", "deprecated", "$defs"})


def parse_schema(text: str) -> dict[str, Any]:
    """The schema as an object; BadRequest when the text is no JSON schema at all, or one that nothing can match."""
    try:
        schema = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise BadRequest(f"the JSON schema is not JSON: {exc}", param=PARAM) from exc
    if schema is True:
        return {}
    if schema is False:
        raise BadRequest("the JSON schema is false: nothing can match it", param=PARAM)
    if not isinstance(schema, dict):
        raise BadRequest("the JSON schema is not an object", param=PARAM)
    return schema


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with every object that lists its properties closed to others, and open integers held to 53 bits.

    All that matches the result matches the schema. Schemas that put objects together (allOf, keywords beside $ref)
    stay as they are: closing their parts could leave nothing that matches.
    """
    return schema if _composes(schema) else _closed(schema)


def _closed(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    result = dict(schema)
    parts = {*_LISTED, "if", "not"} & schema.keys()
    for key in _NAMED:
        if isinstance(schema.get(key), dict):
            result[key] = {name: _closed(value) for name, value in schema[key].items()}
    for key in _LISTED if "properties" not in schema else ():
        if isinstance(schema.get(key), list):
            result[key] = [_closed(value) for value in schema[key]]
    for key in _SINGLE:
        if key in schema:
            result[key] = _closed(schema[key])
    _bound_integer(result)
    properties = schema.get("properties")
    if not isinstance(properties, dict) or parts:
        return result
    required = schema.get("required", [])
    if isinstance(required, list) and all(name in properties for name in required if isinstance(name, str)):
        result.setdefault("additionalProperties", False)
    return result


def _bound_integer(schema: dict[str, Any]) -> None:
    kinds = schema.get("type")
    if kinds != "integer" and not (isinstance(kinds, list) and "integer" in kinds and "number" not in kinds):
        return
    if {"enum", "const"} & schema.keys():
        return
    if "exclusiveMinimum" not in schema:
        schema.setdefault("minimum", -SAFE_INTEGER)
    if "exclusiveMaximum" not in schema:
        schema.setdefault("maximum", SAFE_INTEGER)


def _composes(node: Any) -> bool:
    waiting = [node]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            if "allOf" in here or ("$ref" in here and here.keys() - _BESIDE_REF):
                return True
            waiting.extend(here.values())
        elif isinstance(here, list):
            waiting.extend(here)
    return False
