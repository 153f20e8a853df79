"""Images for tests, as bytes and as parts of messages."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image


def noise(seed: int, size: tuple[int, int] = (40, 32), kind: str = "PNG") -> bytes:
    """A picture of large squares of colour, another for each seed."""
    squares = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    image = Image.fromarray(squares).resize(size, Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def part(data: bytes) -> dict[str, Any]:
    """As OpenAI's clients send it."""
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def question(text: str, *images: bytes) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text}, *map(part, images)]}
