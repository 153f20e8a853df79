"""Images that come with messages, decoded: RGB, upright, and no larger than a machine can bear."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xin.errors import BadRequest

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS = 50_000_000
_FIRST_ID = 1  # an id of an image's place is negative: no token has it


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """`image` is RGB. `digest` is of its pixels; `where` names its part of the request, for errors."""

    image: Image
    digest: bytes
    where: str


def decode(data: bytes, where: str) -> Picture:
    """The first frame of PNG, JPEG, WebP or GIF bytes. Raises BadRequest, whose param is `where`."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP", "GIF")) as opened:
            width, height = opened.size
            if width * height > MOST_PIXELS:
                raise BadRequest(
                    f"{where}: the image has {width} x {height} pixels, more than {MOST_PIXELS // 10**6} million",
                    "send a smaller one",
                    param=where,
                )
            upright = ImageOps.exif_transpose(opened)
            image = _on_white(upright)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
        raise BadRequest(f"{where}: the image cannot be decoded: {exc}"[:300], "send it anew", param=where) from exc
    digest = hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest()
    return Picture(image, digest, where)


def pictures_of(messages: list[dict[str, Any]]) -> list[Picture]:
    """Those of all messages, in their order, as `xin.node.routes.images` left them."""
    return [
        decode(part["data"], f"messages[{number}].content[{index}].image_url.url")
        for number, message in enumerate(messages)
        if isinstance(content := message.get("content"), list)
        for index, part in enumerate(content)
        if isinstance(part, dict) and part.get("type") == "image"
    ]


def with_markers(messages: list[dict[str, Any]], marker: str) -> list[dict[str, Any]]:
    """The messages with a text part `marker` in the place of each image."""
    return [
        message
        | {"content": [{"type": "text", "text": marker} if part.get("type") == "image" else part for part in content]}
        if isinstance(content := message.get("content"), list)
        else message
        for message in messages
    ]


def place_ids(digest: bytes, count: int) -> list[int]:
    """Ids that stand for an image among a prompt's tokens: negative, the same for the same image, for no other."""
    noise = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))
    return (-noise.integers(_FIRST_ID, 2**31, count)).tolist()  # type: ignore[no-any-return]


def _on_white(image: Image) -> Image:
    from PIL import Image as Images

    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        seen = image.convert("RGBA")
        ground = Images.new("RGBA", seen.size, "white")
        return Images.alpha_composite(ground, seen).convert("RGB")
    return image.convert("RGB")
