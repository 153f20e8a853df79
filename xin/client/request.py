"""What the calls of a node's API are made of: paths, requests, and how their replies are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from xin.client.exchange import Call, Request, exchange, reader
from xin.errors import BadRequest
from xin.protocol.node import LaunchReply

Json = dict[str, Any]
encode = msgspec.json.Encoder().encode


def get(path: str, kind: Any, params: Mapping[str, str] | None = None) -> Call[Any]:
    return exchange(Request("GET", path, params or {}), reader(kind))


def post(path: str, body: Json, kind: Any) -> Call[Any]:
    return exchange(sent(path, body), reader(kind))


def sent(path: str, body: Json) -> Request:
    """A model takes as long as it takes, so nothing here times out."""
    return Request("POST", path, body=encode(body), timeout=None)


def launch_with(fields: Json, *, wait: bool = True, on_demand: bool = False) -> Call[LaunchReply]:
    """A launch; `fields` are the request's and the engine's options side by side."""
    given = {"wait_ready": "" if wait else "false", "on_demand": "true" if on_demand else ""}
    params = {key: value for key, value in given.items() if value}
    return exchange(Request("POST", "/v1/models", params, encode(fields), timeout=None), reader(LaunchReply))


def nothing(body: bytes) -> None:
    """Reads a reply whose body says no more than its status."""


def model_path(uid: str) -> str:
    return f"/v1/models/{uid_segment(uid)}"


def uid_segment(uid: str) -> str:
    return segment(uid, "model_uid", "uid of a model", "xin list shows the uids")


def segment(text: str, param: str, what: str = "", hint: str | None = None) -> str:
    """`text` as one segment of a path; raises BadRequest where it would be another path."""
    if not text or text in (".", ".."):
        raise BadRequest(f"{text!r} is no {what or param}", hint, param=param)
    return quote(text, safe="")
