"""The Hugging Face hub: what a repository holds, told by huggingface_hub, and bytes of its files by HTTP ranges."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from xin.errors import BadRequest, Forbidden, InternalError, ModelNotFound, Unreachable, XinError

PUBLIC = "https://huggingface.co"
OFFLINE = frozenset({"1", "ON", "YES", "TRUE"})
METADATA_SECONDS = 20.0
ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
SHA256_DIGITS = 64


@dataclass(slots=True, frozen=True)
class RepoFile:
    """`etag` names its blob in the cache: the sha256 of what lies in LFS, else git's own hash."""

    path: str
    size: int
    sha256: str | None
    etag: str


@dataclass(slots=True, frozen=True)
class RepoListing:
    """`told_by`: members of the cluster, where the hub could not be asked."""

    commit: str
    files: list[RepoFile]
    told_by: str = ""


class HubFails(Unreachable):
    """The hub answers, but not with what it has: a later try may help."""


class Hub:
    """HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE count as they are when it is asked. Raises XinError."""

    async def files(self, repo: str, revision: str = "main") -> RepoListing:
        check_online(repo)
        return await asyncio.to_thread(_listing, repo, revision)

    async def read_range(self, repo: str, commit: str, path: str, start: int, length: int) -> bytes:
        """At most `length` bytes, fewer at the end of the file."""
        check_online(repo)
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        timeout = aiohttp.ClientTimeout(total=METADATA_SECONDS * 3, sock_connect=METADATA_SECONDS)
        try:
            async with (
                make_session(timeout) as session,
                session.get(url_of(repo, commit, path), headers=headers) as reply,
            ):
                if error := refusal(reply.status, f"{repo}: {path}"):
                    raise error
                if reply.status >= 400:
                    raise fails(f"HTTP {reply.status}")
                if reply.status != 206 and start:
                    raise InternalError(f"{endpoint()} answers no ranges", "ask its operator")
                held = bytearray()
                async for piece in reply.content.iter_any():
                    held += piece
                    if len(held) >= length:
                        break
                return bytes(held[:length])
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise not_reached(exc) from exc


def endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or PUBLIC).rstrip("/")


def url_of(repo: str, commit: str, path: str) -> str:
    return f"{endpoint()}/{repo}/resolve/{quote(commit, safe='')}/{quote(path)}"


def make_session(timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
    """The user's token goes to the hub itself, never to where it redirects; proxies are the environment's."""
    headers = {"Accept-Encoding": "identity"}
    return aiohttp.ClientSession(trust_env=True, timeout=timeout, headers=headers, middlewares=(_with_token,))


def is_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in OFFLINE


def check_online(what: str) -> None:
    if is_offline():
        raise Unreachable(f"HF_HUB_OFFLINE is set, so {what} cannot be fetched", "unset it, and start the node again")


def refusal(status: int, what: str) -> XinError | None:
    """The error of a reply that no second try changes; None for all others."""
    if status == 401:
        return Forbidden(f"the hub wants a token for {what}, or there is no such repository", "set HF_TOKEN")
    if status == 403:
        hint = f"ask for access on {endpoint()}, and set HF_TOKEN to a token of that account"
        return Forbidden(f"the hub gives this account no access to {what}", hint)
    if status == 404:
        return ModelNotFound(f"the hub has no {what}", f"look at {endpoint()}", param="model_name")
    if 400 <= status < 500 and status not in (408, 416, 429):
        return InternalError(f"the hub refused {what}: HTTP {status}", "try again later")
    return None


def not_reached(cause: BaseException) -> Unreachable:
    why = str(cause) or type(cause).__name__
    return Unreachable(f"{endpoint()} cannot be reached: {why[:300]}", "check the network, or HF_ENDPOINT")


def fails(why: str) -> HubFails:
    return HubFails(f"{endpoint()} has a fault: {why[:300]}", "try again later")


async def _with_token(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Asked for each hop, so a ~/.netrc that names the hub's host gives way to the token too."""
    if request.url.origin() == URL(endpoint()).origin() and (token := await asyncio.to_thread(_token)):
        request.headers["Authorization"] = f"Bearer {token}"
    return await send(request)


def _token() -> str | None:
    from huggingface_hub import get_token

    return os.environ.get("HF_TOKEN") or get_token()


def _listing(repo: str, revision: str) -> RepoListing:
    from huggingface_hub import HfApi
    from huggingface_hub import errors as hub_errors

    not_there = _connection_errors()
    try:
        api = HfApi(endpoint=endpoint(), token=_token() or False)
        info = api.model_info(repo, revision=revision, files_metadata=True, timeout=METADATA_SECONDS)
    except hub_errors.HFValidationError as exc:
        raise BadRequest(f"{repo[:140]!r} is not ORG/REPO", "as the hub writes it", param="model_name") from exc
    except hub_errors.GatedRepoError as exc:
        raise refusal(403, repo) or not_reached(exc) from exc
    except hub_errors.RevisionNotFoundError as exc:
        hint = "leave the revision out for main"
        raise ModelNotFound(f"{repo} has no revision {revision}", hint, param="model_name") from exc
    except hub_errors.HfHubHTTPError as exc:
        missing = isinstance(exc, hub_errors.RepositoryNotFoundError)
        status = exc.response.status_code if exc.response is not None else 404 if missing else 500
        raise refusal(status, repo) or fails(f"HTTP {status}") from exc
    except not_there as exc:
        raise not_reached(exc) from exc
    return RepoListing(str(info.sha), [_file(one) for one in info.siblings or []])


def _connection_errors() -> tuple[type[Exception], ...]:
    """The system's, and those of the HTTP library that huggingface_hub has loaded: httpx, in later versions httpx2."""
    return (OSError, *(sys.modules[name].HTTPError for name in ("httpx", "httpx2") if name in sys.modules))


def _file(one: Any) -> RepoFile:
    sha256 = one.lfs.sha256 if one.lfs else None
    return checked_file(one.rfilename, one.size or 0, sha256 or one.blob_id or "")


def checked_file(name: str, size: int, etag: str) -> RepoFile:
    """Names that would leave the cache are refused: who lists them is another machine. Raises InternalError."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or not ETAG.fullmatch(etag):
        raise InternalError(f"a file is listed that cannot be: {name[:100]!r}", "fetch another repository")
    return RepoFile(str(path), size, etag if len(etag) == SHA256_DIGITS else None, etag)
