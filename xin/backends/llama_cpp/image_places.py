"""Where images stand in a sequence: a prompt's ids at their positions are negative, made from the image itself."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class ImagePart:
    """A part of an image, as the model takes it: `ids` for its positions in the prompt, and `cells` tokens.

    Models with positions in two dimensions (M-RoPE) have more tokens than positions. `where`: its image, for errors.
    """

    ids: list[int]
    cells: int
    where: str
    chunk: Any
    free: Callable[[Any], None]

    def __del__(self) -> None:
        self.free(self.chunk)


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A part at its place in a sequence: positions `start` to `end`."""

    start: int
    part: ImagePart

    @property
    def end(self) -> int:
        return self.start + len(self.part.ids)


def located(tokens: list[int], parts: Many[ImagePart]) -> list[Placed]:
    """The parts where they stand in `tokens`."""
    found: list[Placed] = []
    for part in parts:
        found.append(Placed(tokens.index(part.ids[0], found[-1].end if found else 0), part))
    return found


def whole(images: Many[Placed], length: int) -> int:
    """The longest beginning, at most `length`, that ends within no image."""
    return next((image.start for image in images if image.start < length < image.end), length)
