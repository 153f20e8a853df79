"""The rows of a batch's keys and values, whatever joins, grows, leaves and moves."""

from __future__ import annotations

import random

import pytest

torch = pytest.importorskip("torch")

LAYERS, HEADS, SIZE = 2, 3, 4


@pytest.mark.parametrize("seed", range(6))
def test_every_row_keeps_what_it_holds(seed: int) -> None:
    from xin.backends.transformers.row_cache import RowCache, RowState

    def some(rows: int, columns: int) -> torch.Tensor:
        return torch.rand((rows, HEADS, columns, SIZE))

    choose = random.Random(seed)
    torch.manual_seed(seed)
    cache, held = RowCache(), []  # per row, per layer: keys and values
    for _ in range(120):
        kind = choose.choice(("add", "pass", "pass", "pass", "remove") if held else ("add",))
        if kind == "add" and len(held) < 5:
            length = choose.choice((1, 30, 300, 700))
            row = [(some(1, length)[0], some(1, length)[0]) for _ in range(LAYERS)]
            cache.prepare(len(held) + 1, length, share=choose.random())
            cache.add(RowState(row))
            held.append(row)
        elif kind == "pass":
            columns = choose.choice((1, 1, 5, 120))
            cache.make_room(columns)
            for i in range(LAYERS):
                keys, values = some(len(held), columns), some(len(held), columns)
                given = cache.update(keys, values, i)
                assert given[0].shape == given[1].shape == (len(held), HEADS, cache.width + columns, SIZE)
                for row, layers in enumerate(held):
                    layers[i] = tuple(
                        torch.cat(pair, dim=1) for pair in zip(layers[i], (keys[row], values[row]), strict=True)
                    )
                    whole = given[0][row, :, -layers[i][0].shape[1] :]
                    assert torch.equal(whole, layers[i][0])
            cache.advance([columns] * len(held))
        elif kind == "remove":
            row = choose.randrange(len(held))
            cache.remove(row)
            held[row] = held[-1]
            held.pop()
        assert cache.lengths == [layers[0][0].shape[1] for layers in held]
        assert cache.width == max(cache.lengths, default=0)
        for row, layers in enumerate(held):
            for state in (cache.state(row), cache.view(row)):
                for got, wanted in zip(state.layers, layers, strict=True):
                    assert torch.equal(got[0], wanted[0]) and torch.equal(got[1], wanted[1])
