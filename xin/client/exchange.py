"""API calls without I/O: a call is a generator that yields requests, is sent replies, and returns a value.

A transport (client.py, async_client.py) drives it; what a reply means is decided here, once for both.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NoReturn, TypeVar

import msgspec

from xin import errors
from xin.errors import ErrorBody, ForeignServer, InternalError, Unreachable, XinError
from xin.protocol.node import NodeInfo

T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class Request:
    """`content_type` is that of the body.

    `timeout` bounds the wait for each read in seconds; None waits for as long as the node takes.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = "application/json"
    timeout: float | None = 30.0


@dataclass(slots=True, frozen=True)
class Reply:
    endpoint: str
    status: int
    headers: Mapping[str, str]
    body: bytes


Call = Generator[Request, Reply, T]


@dataclass(slots=True, frozen=True)
class Stream(Generic[T]):
    """A request whose reply is a stream of events, and how to read one of them."""

    request: Request
    read: Callable[[bytes], T]


def exchange(request: Request, read: Callable[[bytes], T]) -> Call[T]:
    """One request, one value. Raises the error that the node sent, or ForeignServer when it is no node."""
    reply = yield request
    if reply.status == 200:
        try:
            return read(reply.body)
        except msgspec.MsgspecError as exc:
            yield from explain_unreadable(reply, str(exc))
    yield from failure(reply)
    raise AssertionError


def failure(reply: Reply) -> Generator[Request, Reply, NoReturn]:
    """Raise what a reply other than 200 stands for."""
    error = error_of(reply.body, reply.status)
    if error is not None:
        raise error
    yield from explain_unreadable(reply, f"status {reply.status}")
    raise AssertionError


def explain_unreadable(reply: Reply, detail: str) -> Generator[Request, Reply, NoReturn]:
    """Ask the server what it is, and raise with its name."""
    found = yield from identify(reply)
    if found is None:
        raise InternalError(f"the node at {reply.endpoint} sent what this client cannot read: {detail}", VERSION_HINT)
    raise ForeignServer(f"{reply.endpoint} is {found}, not a xin node", FOREIGN_HINT)


def identify(reply: Reply) -> Call[str | None]:
    """The name of the server behind `reply`; None when it is a xin node."""
    if _parsed((yield Request("GET", "/api/node", timeout=5.0)), NodeInfo) is not None:
        return None
    if isinstance(_parsed((yield Request("GET", "/v1/cluster/auth", timeout=5.0)), dict[str, bool]), dict):
        about = _parsed((yield Request("GET", "/v1/cluster/version", timeout=5.0)), dict[str, Any]) or {}
        return f"Xinference {about.get('version', '')}".rstrip()
    home = yield Request("GET", "/", timeout=5.0)
    if b"Ollama is running" in home.body:
        return "Ollama"
    server = reply.headers.get("server") or home.headers.get("server")
    return f"another web server ({server})" if server else "another web server"


def error_of(body: bytes, status: int) -> XinError | None:
    """The error in a node's error body, with its class; None when the body is not a node's."""
    try:
        detail = msgspec.json.decode(body, type=ErrorBody).error
    except msgspec.MsgspecError:
        return None
    if detail.code is None:
        return None
    return errors.from_code(detail.code, detail.message, status=status, hint=detail.hint, param=detail.param)


def reader(kind: Any) -> Callable[[bytes], Any]:
    """Bytes of JSON to `kind`; raises msgspec.MsgspecError."""
    return msgspec.json.Decoder(kind).decode


def event_reader(kind: Any) -> Callable[[bytes], Any]:
    """As `reader`, for an event that may be an error in place of `kind`."""
    decode = msgspec.json.Decoder(kind).decode

    def read(data: bytes) -> Any:
        try:
            return decode(data)
        except msgspec.MsgspecError as exc:
            raise error_of(data, 500) or InternalError(f"unreadable event: {exc}", VERSION_HINT) from exc

    return read


def unreachable(endpoint: str) -> Unreachable:
    return Unreachable(f"no node answers at {endpoint}", "start one: xin node")


def _parsed(reply: Reply, kind: Any) -> Any:
    if reply.status != 200:
        return None
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except msgspec.MsgspecError:
        return None


VERSION_HINT = "node and client may be of different versions: compare xin --version and xin nodes"
FOREIGN_HINT = "run the node on another port: xin node --port 9998, and talk to it with -e http://127.0.0.1:9998"
