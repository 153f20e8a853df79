"""Inputs of different lengths in one pass: which go together, and their padding on the right."""

from __future__ import annotations

import torch

MOST_TOKENS = 8192  # of one pass, padding counted


def groups(lengths: list[int]) -> list[list[int]]:
    """Indices, longest first, such that each group fits in one pass and little of it is padding."""
    found: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[found[-1][0]] if found else 0
        if found and longest * (len(found[-1]) + 1) <= MOST_TOKENS and longest <= 2 * lengths[i] + 8:
            found[-1].append(i)
        else:
            found.append([i])
    return found


def padded(rows: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[rows, columns]: ids, and which of them are real."""
    columns = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (columns - len(row)) for row in rows])
    mask = torch.arange(columns) < torch.tensor([len(row) for row in rows])[:, None]
    return ids, mask
