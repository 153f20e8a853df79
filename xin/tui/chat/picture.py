"""Pictures that go with a question: from a path that was typed, pasted or dropped to a data URL."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from xin.errors import UsageError
from xin.protocol.image import IMAGE_BYTES, KINDS, data_url, media_type
from xin.tui.text import bytes_short, clean

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp"})


@dataclass(frozen=True, slots=True)
class Picture:
    name: str
    url: str
    size_bytes: int


def load(path: Path) -> Picture:
    """Blocking. Raises UsageError for what cannot be read, is no image, or is too large."""
    try:
        with path.open("rb") as file:
            data = file.read(IMAGE_BYTES + 1)
    except OSError as exc:
        raise UsageError(f"{path} cannot be read: {exc.strerror}") from exc
    if media_type(data[:12]) is None:
        raise UsageError(f"{path} is no image: {KINDS} are taken")
    try:
        return Picture(path.name, data_url(data), len(data))
    except ValueError as exc:
        raise UsageError(f"{path}: {exc}") from exc


def pasted_path(text: str) -> Path | None:
    """The image file that a paste names, as a file manager's drop writes it: quoted, escaped, or a file:// URL.

    Only by its look; None for any other text.
    """
    line = text.strip()
    if not line or "\n" in line or len(line) > 4096:
        return None
    if line[0] in "'\"" or "\\" in line:
        try:
            parts = shlex.split(line)
        except ValueError:
            return None
        line = parts[0] if len(parts) == 1 else ""
    is_url = line.startswith("file:///")
    path = Path(unquote(line.removeprefix("file://")) if is_url else line)
    if not (is_url or line.startswith(("/", "~/"))) or path.suffix.lower() not in SUFFIXES:
        return None
    return path.expanduser()


def about(url: str) -> str:
    """png 12K: of a data URL."""
    head, _, body = url.partition(",")
    kind = head.removeprefix("data:").removesuffix(";base64").removeprefix("image/")
    return clean(f"{kind[:12]} {bytes_short(len(body) * 3 // 4)}")
