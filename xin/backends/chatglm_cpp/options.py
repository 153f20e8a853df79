"""Launch options of the chatglm.cpp engine."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Options(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """
    context_length  window of one request, in tokens; default: what the model was trained with, at most 8192
    """

    context_length: Annotated[int, Meta(ge=8, le=1_048_576)] | None = None
