"""`XIN1-…`: where to knock and the secret to show, in one word for scripts."""

from __future__ import annotations

import base64
import re
from typing import Annotated

import msgspec
from msgspec import Meta

from xin.errors import BadRequest
from xin.protocol.trust import Port

PREFIX = "XIN1-"
MOST_ADDRESSES = 4
_TOKEN = re.compile(r"XIN1-[A-Za-z0-9_-]{20,2000}")


class Token(msgspec.Struct, array_like=True):
    offer: Annotated[str, Meta(max_length=64)]
    secret: Annotated[str, Meta(min_length=16, max_length=128)]
    port: Port
    addresses: Annotated[list[str], Meta(min_length=1, max_length=16)]


def written(token: Token) -> str:
    packed = msgspec.msgpack.encode(token)
    return PREFIX + base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def read(text: str) -> Token:
    """Raises BadRequest, without the token in it."""
    if not _TOKEN.fullmatch(text):
        raise BadRequest("this is no token: it has the form XIN1-…", "xin cluster token makes one", param="secret")
    packed = text.removeprefix(PREFIX)
    try:
        return msgspec.msgpack.decode(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), type=Token)
    except (ValueError, msgspec.MsgspecError):
        raise BadRequest("this token is damaged", "copy it whole", param="secret") from None
