"""Images for models that read them beside text: the repository's own processor prepares them, the model merges them.

The images of a prompt are one piece, from the first place of the first to the last place of the last. It is read in a
pass of its own, and found again in the prefix cache as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from xin.backends.picture import Picture, place_ids
from xin.errors import BadRequest

_OF_TOKENS = {"token_type_ids", "mm_token_type_ids"}  # inputs with a value for each token


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """`inputs`: what the model takes beside ids, for a pass over all images. `token`: the id at their places."""

    inputs: dict[str, Any]
    token: int

    def span(self, tokens: list[int]) -> tuple[int, int]:
        """Where its places begin and end in `tokens`."""
        places = [at for at, token in enumerate(tokens) if token < 0]
        return places[0], places[-1] + 1

    def ids(self, tokens: list[int]) -> list[int]:
        """As the model knows them."""
        return [self.token if token < 0 else token for token in tokens]


class Eyes:
    """The processor of a model that takes images. `prepare` is called on the preparer thread."""

    def __init__(self, processor: Any, config: Any) -> None:
        self._processor = processor
        token = getattr(config, "image_token_id", None)
        self._token = int(config.image_token_index if token is None else token)
        written = getattr(processor, "chat_template", None)
        self.template = written if isinstance(written, str) else None
        self.marker = str(getattr(processor, "boi_token", None) or processor.image_token)

    def prepare(self, text: str, pictures: Sequence[Picture], add_special: bool) -> tuple[list[int], Sight]:
        """The prompt's ids, negative where images stand, and what the model takes for them. Raises BadRequest."""
        where = pictures[0].where
        try:
            made = self._processor(
                text=[text],
                images=[picture.image for picture in pictures],
                return_tensors="pt",
                add_special_tokens=add_special,
            )
        except (ValueError, TypeError, IndexError, RuntimeError) as exc:
            raise BadRequest(f"{where}: the image cannot be prepared: {exc}"[:300], param=where) from exc
        ids: list[int] = made.pop("input_ids")[0].tolist()
        made.pop("attention_mask", None)
        count = ids.count(self._token)
        if not count:
            raise BadRequest(f"{where}: the model's chat template leaves images out", param=where)
        digest = hashlib.sha256(b"".join(picture.digest for picture in pictures)).digest()
        places = iter(place_ids(digest, count))
        tokens = [next(places) if token == self._token else token for token in ids]
        sight = Sight(dict(made), self._token)
        first, last = sight.span(tokens)
        for name in sight.inputs.keys() & _OF_TOKENS:
            sight.inputs[name] = sight.inputs[name][:, first:last]
        return tokens, sight


def on_device(inputs: dict[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Numbers of images in the model's own type; counts and masks as they are."""
    return {
        name: value.to(device, dtype) if torch.is_tensor(value) and value.is_floating_point() else _moved(value, device)
        for name, value in inputs.items()
    }


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if torch.is_tensor(value) else value
