"""The probability of a token that was chosen, and of the likeliest others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xin.backends.vocabulary import Pieces
from xin.worker.frames import TokenLogprob

Row = npt.NDArray[np.float32]


def token_logprob(row: Row, token: int, alternatives: int, vocabulary: Pieces) -> TokenLogprob:
    """log softmax of `row` at `token`, and the best `alternatives`; natural logarithm."""
    top = float(row.max())
    norm = top + float(np.log(np.exp(row - top, dtype=np.float32).sum(dtype=np.float64)))
    best: list[tuple[int, bytes, float]] = []
    if alternatives:
        ids = np.argpartition(row, -alternatives)[-alternatives:]
        ids = ids[np.argsort(-row[ids], kind="stable")]
        best = [(int(i), vocabulary.piece(int(i), True), float(row[i]) - norm) for i in ids]
    return TokenLogprob(token, vocabulary.piece(token, True), float(row[token]) - norm, best)
