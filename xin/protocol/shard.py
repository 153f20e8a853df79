"""What members of a cluster tell one another about a model that is divided over them. Sizes in bytes."""

from __future__ import annotations

from typing import Annotated

import msgspec

_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class HelperOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /api/members/helpers. `build`: of the asker's llama.cpp, as in its /api/node."""

    build: _Word
    model_uid: _Word


class HelperReply(msgspec.Struct, kw_only=True):
    """A helper that waits: it ends when nobody watches it. `on_gpu`: it offers accelerators, else RAM."""

    id: str
    free_bytes: int
    on_gpu: bool = False
