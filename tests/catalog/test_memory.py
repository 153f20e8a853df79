"""Formulas of memory against published tables and against models whose bytes are known."""

from __future__ import annotations

import pytest

from xin.catalog import memory
from xin.catalog.spec import Shape

MIB = 2**20
VICUNA = Shape(layers=32, hidden=4096, heads=32, kv_heads=32, ffn=11008, vocabulary=32000)
BAICHUAN = Shape(layers=32, hidden=4096, heads=32, kv_heads=32, ffn=11008, vocabulary=64000)
BAICHUAN_13B = Shape(layers=40, hidden=5120, heads=40, kv_heads=40, ffn=13696, vocabulary=64000)
LLAMA_70B = Shape(layers=80, hidden=8192, heads=64, kv_heads=8, ffn=28672, vocabulary=32000)
# shape, positions and bytes of 2023's rotary buffers, quantization, MiB of the table
TABLE = [
    (VICUNA, 2048, 2, "none", 12884),
    (VICUNA, 2048, 2, "8-bit", 6708),
    (VICUNA, 2048, 2, "4-bit", 3620),
    (BAICHUAN, 4096, 4, "none", 13480),
    (BAICHUAN, 4096, 4, "8-bit", 7304),
    (BAICHUAN, 4096, 4, "4-bit", 4216),
    (BAICHUAN_13B, 0, 0, "8-bit", 13275),
    (BAICHUAN_13B, 0, 0, "4-bit", 7263),
]


@pytest.mark.parametrize(("shape", "positions", "item_bytes", "quantization", "mib"), TABLE)
def test_the_table_of_2023(shape: Shape, positions: int, item_bytes: int, quantization: str, mib: int):
    told = memory.pytorch_bytes_2023(shape, quantization, positions, item_bytes) / MIB
    assert told == pytest.approx(mib, rel=0.005)
    assert told == pytest.approx(mib, abs=1)  # in fact to the MiB


@pytest.mark.parametrize(("shape", "positions", "item_bytes", "quantization", "mib"), TABLE)
def test_what_they_take_today(shape: Shape, positions: int, item_bytes: int, quantization: str, mib: int):
    least, most = (0.97, 1.10) if quantization == "4-bit" else (0.98, 1.02)
    assert least * mib <= memory.pytorch_bytes(shape, quantization) / MIB <= most * mib


def test_quantization_state_is_counted():
    linear = memory.linear_parameters(VICUNA)
    embeddings = 2 * memory.embedding_parameters(VICUNA)
    plain = memory.pytorch_bytes(VICUNA, "4-bit", nested=False) - embeddings
    assert plain == linear // 2 + linear // 64 * 4
    assert memory.pytorch_bytes(VICUNA, "4-bit") - embeddings < plain
    rows = 32 * (4 * 4096 + 2 * 11008 + 4096)
    assert memory.pytorch_bytes(VICUNA, "8-bit") - embeddings == linear + 4 * rows


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        (VICUNA, 6_738_415_616),
        (LLAMA_70B, 68_976_648_192),
        (
            Shape(
                layers=12,
                hidden=768,
                heads=12,
                kv_heads=12,
                ffn=3072,
                vocabulary=50257,
                tied=True,
                gated=False,
                positions=1024,
            ),
            124_439_808,
        ),
        (Shape(layers=30, hidden=576, heads=9, kv_heads=3, ffn=1536, vocabulary=49152, tied=True), 134_515_008),
    ],
)
def test_parameters_as_their_makers_count_them(shape: Shape, count: int):
    assert memory.parameters(shape) == pytest.approx(count, rel=0.001)


def test_mixture_of_experts_counts_them_all():
    mixtral = Shape(
        layers=32, hidden=4096, heads=32, kv_heads=8, ffn=14336, vocabulary=32000, experts=8, experts_used=2
    )
    assert memory.parameters(mixtral) == pytest.approx(46_702_792_704, rel=0.001)


def test_gguf_bytes_and_the_cache():
    assert memory.gguf_bytes(VICUNA, "Q4_K_M") == pytest.approx(4_081_004_224, rel=0.01)  # of the published file
    assert memory.gguf_bytes(VICUNA, "Q8_0") == pytest.approx(7_161_089_728, rel=0.01)
    assert memory.gguf_bytes(VICUNA, "no-such") == 0
    assert memory.kv_bytes_per_token(VICUNA) == 524_288
    assert memory.kv_bytes_per_token(LLAMA_70B) == 327_680
    assert memory.kv_bytes_per_token(VICUNA, 8.5) == 278_528
