"""What both transports tell httpx, and what its exceptions mean here."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from xin import __version__, config
from xin.client.exchange import FOREIGN_HINT, Reply, Request, unreachable
from xin.errors import ForeignServer, Unreachable, UsageError

CONNECT_SECONDS = 5.0


def base_url(endpoint: str) -> str:
    """`endpoint` without what copying it from a browser or an OpenAI client adds. Raises UsageError."""
    text = endpoint.strip()
    text = text if "://" in text else f"http://{text}"
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as exc:
        raise UsageError(f"{endpoint!r} is not an endpoint: {exc}", ENDPOINT_HINT) from exc
    if url.scheme not in ("http", "https") or not url.host or " " in text:
        raise UsageError(f"{endpoint!r} is not an endpoint", ENDPOINT_HINT)
    return text.rstrip("/").removesuffix("/v1")


def settings(endpoint: str) -> dict[str, Any]:
    """Arguments for httpx.Client and httpx.AsyncClient. Proxies of the environment are not for nodes.

    Making a TLS context takes 0.2 s, so plain HTTP goes without.
    """
    return {
        "base_url": endpoint,
        "headers": {"user-agent": f"xin/{__version__}", "accept-encoding": "identity"},
        "timeout": httpx.Timeout(30.0, connect=CONNECT_SECONDS),
        "trust_env": False,
        "verify": _authorities() if endpoint.startswith("https:") else False,
    }


def _authorities() -> ssl.SSLContext | bool:
    """Whom to believe who an https endpoint is: XIN_CLIENT_CA or SSL_CERT_FILE, else the well-known ones."""
    file = config.load().client.ca or os.environ.get("SSL_CERT_FILE")
    if not file:
        return True
    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as exc:
        reason = exc.strerror or str(exc)
        raise UsageError(
            f"{file} holds no certificates: {reason}", "make it with: xin cert export", param="ca"
        ) from exc


def arguments(request: Request) -> dict[str, Any]:
    """Arguments for `.request` and `.stream` of either httpx client."""
    return {
        "method": request.method,
        "url": request.path,
        "params": dict(request.params),
        "content": request.body,
        "headers": {"content-type": request.content_type} if request.body is not None else {},
        "timeout": httpx.Timeout(request.timeout, connect=CONNECT_SECONDS),
    }


def reply_of(endpoint: str, response: httpx.Response) -> Reply:
    return Reply(endpoint, response.status_code, response.headers, response.content)


@contextmanager
def translated(endpoint: str) -> Iterator[None]:
    """httpx's exceptions as XinErrors."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
        if "CERTIFICATE_VERIFY_FAILED" in str(exc):
            raise Unreachable(f"nobody here vouches for the certificate of {endpoint}: {exc}", CA_HINT) from exc
        if "WRONG_VERSION_NUMBER" in str(exc):
            raise Unreachable(f"{endpoint} does not speak TLS", "write http:// in place of https://") from exc
        raise unreachable(endpoint) from exc
    except httpx.RemoteProtocolError as exc:
        if "illegal" in str(exc):
            raise ForeignServer(f"{endpoint} does not speak HTTP", FOREIGN_HINT) from exc
        raise Unreachable(f"the node at {endpoint} went away before the answer was complete", LOST_HINT) from exc
    except httpx.TimeoutException as exc:
        raise Unreachable(f"the node at {endpoint} did not answer in time", LOST_HINT) from exc
    except httpx.TransportError as exc:
        raise Unreachable(f"the connection to {endpoint} was lost: {exc}", LOST_HINT) from exc


ENDPOINT_HINT = "write it as http://127.0.0.1:9997"
CA_HINT = "on the node: xin cert export node.pem; bring the file here and set XIN_CLIENT_CA=node.pem"
LOST_HINT = "see whether it runs: xin nodes"
