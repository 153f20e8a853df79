"""Old families whose repositories bring their own Python code, in the class of transformers that computes the same.

| repository's model | class here | what is mapped |
|---|---|---|
| baichuan-7B, baichuan2-7B | Llama | W_pack is q, k and v in one; baichuan2's lm_head is normalized |
| internlm-7B, -20B | Llama | the same names; q, k, v and o have biases |
| qwen v1 | Qwen2 | c_attn is q, k and v in one; w2 is the gate, w1 goes up; its intermediate_size counts both |

baichuan-13B has ALiBi positions, which no such class has; chatglm has its own engine.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import LlamaTokenizer, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from xin.backends.transformers.kind import read_json
from xin.errors import LoadFailed

Tensors = dict[str, torch.Tensor]
_NORMALIZED_HEAD = 125_696  # baichuan2's vocabulary
_QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205))]
_QWEN_LAYER = {
    "ln_1": "input_layernorm",
    "ln_2": "post_attention_layernorm",
    "attn.c_proj": "self_attn.o_proj",
    "mlp.w1": "mlp.up_proj",
    "mlp.w2": "mlp.gate_proj",
    "mlp.c_proj": "mlp.down_proj",
}
_QWEN_TOP = {"transformer.wte": "model.embed_tokens", "transformer.ln_f": "model.norm", "lm_head": "lm_head"}


@dataclass(frozen=True, slots=True)
class Twin:
    """`renamed` makes the class's tensors of the repository's."""

    model_type: str
    config: dict[str, Any]
    renamed: Callable[[Tensors], Tensors]

    def tensors(self, folder: Path) -> Tensors:
        found: Tensors = {}
        for file in sorted(folder.glob("*.safetensors")):
            found |= load_file(file)
        return self.renamed(found)


def twin_of(folder: Path) -> Twin | None:
    """None for what transformers knows itself. LoadFailed for a model that only its own code can run."""
    config = read_json(folder / "config.json")
    if not isinstance(config, dict) or not config.get("auto_map"):
        return None
    match config.get("model_type"):
        case "baichuan":
            return _baichuan(config)
        case "internlm":
            settings = {**_llama_like(config), "attention_bias": bool(config.get("bias", True))}
            return Twin("llama", settings, _without_buffers)
        case "qwen":
            return _qwen(config)
    return None


def tokenizer_of(folder: Path) -> Any:
    """From tokenizer.json, sentencepiece's tokenizer.model, or qwen.tiktoken; the repository's code is not asked."""
    about = read_json(folder / "tokenizer_config.json")
    names = {key: about[key] for key in ("bos_token", "eos_token", "pad_token", "chat_template") if about.get(key)}
    if (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **names)
    if (folder / "tokenizer.model").is_file():
        return LlamaTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if (folder / "qwen.tiktoken").is_file():
        made = _QwenConverter(str(folder / "qwen.tiktoken"), _QWEN_PATTERN, extra_special_tokens=_QWEN_SPECIAL)
        return PreTrainedTokenizerFast(tokenizer_object=made.converted(), eos_token=_QWEN_SPECIAL[0])
    raise LoadFailed(f"{folder.name} has no tokenizer.json, tokenizer.model or qwen.tiktoken", "fetch it again")


def _llama_like(config: dict[str, Any]) -> dict[str, Any]:
    same = (
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads max_position_embeddings "
        "rms_norm_eps tie_word_embeddings bos_token_id eos_token_id pad_token_id hidden_act"
    )
    found = {name: config[name] for name in same.split() if name in config}
    return found | ({"dtype": config["torch_dtype"]} if "torch_dtype" in config else {})


def _baichuan(config: dict[str, Any]) -> Twin:
    if "max_position_embeddings" not in config:
        raise LoadFailed("baichuan-13B has ALiBi positions, which only its own code computes", "choose a GGUF of it")

    def renamed(tensors: Tensors) -> Tensors:
        found: Tensors = {}
        for name, tensor in _without_buffers(tensors).items():
            if ".W_pack." in name:
                for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                    found[name.replace("W_pack", f"{part}_proj")] = piece.contiguous()
            else:
                found[name] = tensor
        if config.get("vocab_size") == _NORMALIZED_HEAD:
            found["lm_head.weight"] = torch.nn.functional.normalize(found["lm_head.weight"].float()).to(
                found["lm_head.weight"].dtype
            )
        return found

    return Twin("llama", _llama_like(config), renamed)


def _qwen(config: dict[str, Any]) -> Twin:
    settings = _llama_like(config) | {
        "intermediate_size": config["intermediate_size"] // 2,
        "num_key_value_heads": config["num_attention_heads"],
        "max_position_embeddings": config.get("seq_length", 8192),  # beyond it the repository scales positions
        "rms_norm_eps": config.get("layer_norm_epsilon", 1e-6),
        "rope_theta": config.get("rotary_emb_base", 10000),
        "hidden_act": "silu",
    }
    return Twin("qwen2", settings, _qwen_renamed)


def _qwen_renamed(tensors: Tensors) -> Tensors:
    found: Tensors = {}
    for name, tensor in _without_buffers(tensors).items():
        stem, _, kind = name.rpartition(".")
        if stem in _QWEN_TOP:
            found[f"{_QWEN_TOP[stem]}.{kind}"] = tensor
            continue
        layer = re.fullmatch(r"transformer\.h\.(\d+)\.(.+)", stem)
        if layer is None:
            raise LoadFailed(f"this qwen has a tensor {name!r}, which its published code does not know")
        prefix = f"model.layers.{layer[1]}"
        if layer[2] == "attn.c_attn":
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                found[f"{prefix}.self_attn.{part}_proj.{kind}"] = piece.contiguous()
        elif layer[2] in _QWEN_LAYER:
            found[f"{prefix}.{_QWEN_LAYER[layer[2]]}.{kind}"] = tensor
        else:
            raise LoadFailed(f"this qwen has a tensor {name!r}, which its published code does not know")
    return found


def _without_buffers(tensors: Tensors) -> Tensors:
    """Rotation tables are computed, not read."""
    return {name: tensor for name, tensor in tensors.items() if "rotary_emb" not in name}


class _QwenConverter(TikTokenConverter):  # type: ignore[misc]
    """Reads the ranks itself: tiktoken need not be installed."""

    @staticmethod
    def load_tiktoken_bpe(tiktoken_url: str) -> dict[bytes, int]:
        lines = Path(tiktoken_url).read_bytes().splitlines()
        pairs = (line.split() for line in lines if line)
        return {base64.b64decode(token): int(rank) for token, rank in pairs}
