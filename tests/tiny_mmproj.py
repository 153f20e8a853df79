"""A multimodal projector of some KB for the models of tiny_gguf: LLaVA's shape, with noise for weights."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import tiny_gguf

IMAGE, PATCH, WIDTH, FFN, LAYERS, HEADS = 32, 8, 64, 96, 3, 4
TOKENS = (IMAGE // PATCH) ** 2
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}{% endfor %}<assistant>"
)


def write(path: Path, *, embedding: int = tiny_gguf.EMBED, vision: bool = True) -> Path:
    """`embedding`: the width of the text model that it is for."""
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_bool("clip.has_vision_encoder", vision)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.use_gelu", True)
    for key, value in {
        "image_size": IMAGE,
        "patch_size": PATCH,
        "embedding_length": WIDTH,
        "feed_forward_length": FFN,
        "projection_dim": embedding,
        "block_count": LAYERS,
        "attention.head_count": HEADS,
    }.items():
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    noise = np.random.default_rng(11)

    def add(name: str, *shape: int, scale: float = 0.3) -> None:
        writer.add_tensor(name, noise.normal(0, scale, shape).astype(np.float32))

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(WIDTH, np.float32))

    add("v.class_embd", WIDTH)
    add("v.patch_embd.weight", WIDTH, 3, PATCH, PATCH)
    add("v.position_embd.weight", TOKENS + 1, WIDTH)
    norm("v.pre_ln")
    for layer in range(LAYERS):
        block = f"v.blk.{layer}"
        for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
            add(f"{block}.{part}.weight", WIDTH, WIDTH)
            add(f"{block}.{part}.bias", WIDTH)
        norm(f"{block}.ln1")
        norm(f"{block}.ln2")
        add(f"{block}.ffn_up.weight", FFN, WIDTH)
        add(f"{block}.ffn_up.bias", FFN)
        add(f"{block}.ffn_down.weight", WIDTH, FFN)
        add(f"{block}.ffn_down.bias", WIDTH)
    add("mm.0.weight", embedding, WIDTH)
    add("mm.0.bias", embedding)
    add("mm.2.weight", embedding, embedding)
    add("mm.2.bias", embedding)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
