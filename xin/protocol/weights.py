"""What members of a cluster ask one another about weights. `etag` is the hub's name of a file's content: its hash."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Etag = Annotated[str, Meta(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
MOST_FILES = 10_000


class WhoHolds(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /api/members/weights/held."""

    etags: Annotated[list[Etag], Meta(min_length=1, max_length=256)]


class Held(msgspec.Struct, kw_only=True):
    """The answer: bytes of each that lies there whole."""

    sizes: dict[str, int] = {}


class WhichFiles(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /api/members/weights/listing."""

    repo: Annotated[str, Meta(max_length=256)]
    revision: Annotated[str, Meta(max_length=256)] = "main"


class HeldFile(msgspec.Struct, kw_only=True):
    path: Annotated[str, Meta(min_length=1, max_length=1024)]
    size: Annotated[int, Meta(ge=0)]
    etag: Etag


class HeldRepo(msgspec.Struct, kw_only=True):
    """The answer: what lies there of one revision; no commit and no files when nothing does."""

    commit: Annotated[str, Meta(pattern=r"^([0-9a-f]{40})?$")] = ""
    files: Annotated[list[HeldFile], Meta(max_length=MOST_FILES)] = []
