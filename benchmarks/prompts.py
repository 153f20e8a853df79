"""Prompts of a known length: numbered prose, distinct per seed, so that no cache helps where none is meant to."""

from __future__ import annotations

import random

WORDS = """
river stone window morning garden letter engine market winter music harbour silver kitchen bridge forest
candle teacher mountain paper island summer doctor story village ocean lantern machine valley student clock
pocket thunder basket meadow hammer captain mirror orchard railway shadow blanket compass feather tunnel
""".split()  # noqa: SIM905  a list of these would take 44 lines


def prose(words: int, seed: int) -> str:
    """`words` common words in sentences of eight; about 1.15 tokens each. The first word already differs by seed."""
    draw = random.Random(seed)
    sentences = []
    left = words
    while left > 0:
        chosen = [draw.choice(WORDS) for _ in range(min(8, left))]
        sentences.append("The " + " ".join(chosen) + ".")
        left -= 8
    return f"{draw.randrange(10**6)} " + " ".join(sentences)
