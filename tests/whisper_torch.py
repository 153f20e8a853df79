"""Whisper in CTranslate2's format to a folder that transformers loads: `python whisper_torch.py FOLDER NEW_FOLDER`.

CTranslate2 keeps the three projections of an attention in one matrix, and those of keys and values of another text in
one; names and shapes are those of its converter's specification (ctranslate2/specs/model_spec.py).
"""

from __future__ import annotations

import json
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

Tensors = dict[str, np.ndarray]
_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
_HEADS = {384: 6, 512: 8, 768: 12, 1024: 16, 1280: 20}  # by width


def convert(source: Path, target: Path) -> Path:
    from safetensors.numpy import save_file

    given = read(source / "model.bin")
    tensors: Tensors = {}
    for side in ("encoder", "decoder"):
        tensors |= _side(given, side)
    tensors["model.decoder.embed_tokens.weight"] = given["decoder/embeddings/weight"]
    tensors["model.decoder.embed_positions.weight"] = given["decoder/position_encodings/encodings"]
    tensors["model.encoder.embed_positions.weight"] = given["encoder/position_encodings/encodings"]
    for conv in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            tensors[f"model.encoder.{conv}.{part}"] = given[f"encoder/{conv}/{part}"]
    target.mkdir(parents=True)
    whole = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    save_file(whole, target / "model.safetensors", metadata={"format": "pt"})
    _write_configs(given, json.loads((source / "config.json").read_text()), source, target)
    return target


def read(file: Path) -> Tensors:
    """Every variable by its name."""
    data, at = file.read_bytes(), 0

    def number(kind: str) -> Any:
        nonlocal at
        (value,) = struct.unpack_from(f"<{kind}", data, at)
        at += struct.calcsize(f"<{kind}")
        return value

    def name() -> str:
        nonlocal at
        length = number("H")
        at += length
        return data[at - length : at - 1].decode()

    number("I"), name(), number("I")
    found: Tensors = {}
    for _ in range(number("I")):
        key = name()
        shape = [number("I") for _ in range(number("B"))]
        kind = _TYPES[number("B")]
        size = number("I")
        found[key] = np.frombuffer(data, kind, size // np.dtype(kind).itemsize, at).reshape(shape)
        at += size
    return found


def _side(given: Tensors, side: str) -> Tensors:
    made: Tensors = {}
    ours = f"model.{side}"

    def norm(theirs: str, name: str) -> None:
        made[f"{ours}.{name}.weight"] = given[f"{side}/{theirs}/gamma"]
        made[f"{ours}.{name}.bias"] = given[f"{side}/{theirs}/beta"]

    def linear(theirs: str, *names: str) -> None:
        for part in ("weight", "bias"):
            pieces = np.split(given[f"{side}/{theirs}/{part}"], len(names))
            for name, piece in zip(names, pieces, strict=True):
                if part == "weight" or not name.endswith("k_proj"):  # keys have no bias
                    made[f"{ours}.{name}.{part}"] = piece

    norm("layer_norm", "layer_norm")
    for layer in range(_layers(given, side)):
        theirs, name = f"layer_{layer}", f"layers.{layer}"
        parts = [("self_attention", "self_attn")] + ([("attention", "encoder_attn")] if side == "decoder" else [])
        for attention, attn in parts:
            norm(f"{theirs}/{attention}/layer_norm", f"{name}.{attn}_layer_norm")
            q, k, v = (f"{name}.{attn}.{part}_proj" for part in "qkv")
            if attn == "self_attn":
                linear(f"{theirs}/{attention}/linear_0", q, k, v)
                linear(f"{theirs}/{attention}/linear_1", f"{name}.{attn}.out_proj")
            else:
                linear(f"{theirs}/{attention}/linear_0", q)
                linear(f"{theirs}/{attention}/linear_1", k, v)
                linear(f"{theirs}/{attention}/linear_2", f"{name}.{attn}.out_proj")
        norm(f"{theirs}/ffn/layer_norm", f"{name}.final_layer_norm")
        linear(f"{theirs}/ffn/linear_0", f"{name}.fc1")
        linear(f"{theirs}/ffn/linear_1", f"{name}.fc2")
    return made


def _layers(given: Tensors, side: str) -> int:
    return 1 + max(
        int(key.split("/")[1][6:]) for key in given if key.startswith(f"{side}/layer_") and "norm/" not in key
    )


def _write_configs(given: Tensors, told: dict[str, Any], source: Path, target: Path) -> None:
    from transformers import WhisperFeatureExtractor

    vocabulary, width = given["decoder/embeddings/weight"].shape
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    start, end = ids["<|startoftranscript|>"], ids["<|endoftext|>"]
    shared = {"decoder_start_token_id": start, "bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    heads = _HEADS[width]
    config = {
        **shared,
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration"],
        "vocab_size": vocabulary,
        "d_model": width,
        "num_mel_bins": given["encoder/conv1/weight"].shape[1],
        "encoder_layers": _layers(given, "encoder"),
        "decoder_layers": _layers(given, "decoder"),
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": 4 * width,
        "decoder_ffn_dim": 4 * width,
        "max_source_positions": given["encoder/position_encodings/encodings"].shape[0],
        "max_target_positions": given["decoder/position_encodings/encodings"].shape[0],
        "dtype": "float16",
        "tie_word_embeddings": True,
    }
    generation = {
        **shared,
        "is_multilingual": False,
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "max_initial_timestamp_index": 50,
        "suppress_tokens": told["suppress_ids"],
        "begin_suppress_tokens": told["suppress_ids_begin"],
        "alignment_heads": told["alignment_heads"],
    }
    (target / "config.json").write_text(json.dumps(config))
    (target / "generation_config.json").write_text(json.dumps(generation))
    names = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    (target / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **names}))
    shutil.copy(source / "tokenizer.json", target / "tokenizer.json")
    WhisperFeatureExtractor(feature_size=config["num_mel_bins"]).save_pretrained(target)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
