"""The request fields that both dialects share, as what a worker understands."""

from __future__ import annotations

import msgspec

from xin.errors import BadRequest
from xin.node.routes.body import encoded
from xin.protocol.node import Instance
from xin.protocol.openai import ResponseFormat, SamplingFields
from xin.worker.frames import Constraint, Sampling

DEFAULTS = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
_SAME_NAME = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "ignore_eos",
)


def sampling_of(body: SamplingFields) -> Sampling:
    """What the request sets; with_defaults() adds the rest once the model is known."""
    given = {name: value for name in _SAME_NAME if (value := getattr(body, name)) is not None}
    alias = body.repetition_penalty
    if alias is not None and given.setdefault("repeat_penalty", alias) != alias:
        raise BadRequest(
            "repetition_penalty and repeat_penalty are the same setting, but were given different values",
            param="repetition_penalty",
        )
    if body.logit_bias:
        given["logit_bias"] = {_token_id(key): bias for key, bias in body.logit_bias.items()}
    return Sampling(**given)


def with_defaults(sampling: Sampling, body: SamplingFields, instance: Instance) -> Sampling:
    """What the request leaves unset, as the model's makers advise, else as llama.cpp and its users are used to."""
    advised = {**DEFAULTS, **instance.sampling}
    unset = {name: value for name, value in advised.items() if getattr(body, name) is None}
    return msgspec.structs.replace(sampling, **unset)


def stops_of(body: SamplingFields) -> list[str]:
    stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
    if "" in stops:
        raise BadRequest("stop: an empty string would stop at once", "leave it out", param="stop")
    return stops


def constraint_of(given: ResponseFormat | None) -> Constraint | None:
    """None for plain text."""
    if given is None or given.type == "text":
        return None
    if given.type == "json_object":
        return Constraint("json_object")
    if given.type == "json_schema":
        schema = given.json_schema.schema if given.json_schema else None
        if schema is None:
            raise _required("response_format.json_schema.schema")
        return Constraint("json_schema", encoded(schema, "response_format.json_schema.schema").decode())
    text = given.regex if given.type == "regex" else given.grammar
    if text is None:
        raise _required(f"response_format.{given.type}")
    return Constraint(given.type, text)


def check_stream_options(body: SamplingFields) -> None:
    if body.stream_options is not None and not body.stream:
        raise BadRequest("stream_options needs stream", "set stream to true", param="stream_options")


def wants_usage(body: SamplingFields) -> bool:
    return body.stream_options is not None and body.stream_options.include_usage


def _token_id(key: str) -> int:
    if not (key.isascii() and key.isdigit() and len(key) < 11):
        raise BadRequest(f"logit_bias: expected token ids as keys, got {key[:80]!r}", param="logit_bias")
    return int(key)


def _required(param: str) -> BadRequest:
    return BadRequest(f"field {param!r} is required", param=param)
