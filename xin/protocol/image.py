"""Images that go with messages: told by their first bytes, not by what they are called."""

from __future__ import annotations

import base64
import binascii
import struct

IMAGE_BYTES = 20 * 2**20
KINDS = "PNG, JPEG, WebP and GIF"
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG's SOF0 to SOF15


def media_type(head: bytes) -> str | None:
    """`image/png` and the like; None for what is no image that is taken here. 12 bytes are enough."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "image/gif"
    return "image/webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else None


def data_url(data: bytes) -> str:
    """Raises ValueError for what is no image, or over IMAGE_BYTES."""
    return f"data:{checked(data)};base64,{base64.b64encode(data).decode()}"


def from_data_url(url: str) -> tuple[str, bytes]:
    """(media type, bytes). What the URL says of the type does not count. Raises ValueError."""
    head, comma, body = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise ValueError("no data URL in base64, such as data:image/png;base64,…")
    if len(body) > IMAGE_BYTES * 4 // 3 + 4:
        raise _too_large()
    try:
        data = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ValueError("the data URL is not valid base64") from exc
    return checked(data), data


def checked(data: bytes) -> str:
    """Its media type. Raises ValueError for what is no image, or over IMAGE_BYTES."""
    if len(data) > IMAGE_BYTES:
        raise _too_large()
    kind = media_type(data[:12])
    if kind is None:
        raise ValueError(f"these bytes are no image: {KINDS} are taken")
    return kind


def pixels(data: bytes) -> tuple[int, int] | None:
    """(width, height) as the header has them; None where it has none. Never raises on bad bytes."""
    try:
        match media_type(data[:12]):
            case "image/png":
                width, height = struct.unpack_from(">II", data, 16)
            case "image/gif":
                width, height = struct.unpack_from("<HH", data, 6)
            case "image/webp":
                return _webp(data)
            case "image/jpeg":
                return _jpeg(data)
            case _:
                return None
    except struct.error:
        return None
    return width, height


def _webp(data: bytes) -> tuple[int, int] | None:
    match data[12:16]:
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X" if len(data) >= 30:
            return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + max(length, 2)
    return None


def _too_large() -> ValueError:
    return ValueError(f"the image has more than {IMAGE_BYTES // 2**20} MiB")
