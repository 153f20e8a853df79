"""Tiny causal language models with random weights, as folders of safetensors; their tokens are bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAIN = "abcdefghijé世 klmnopqrstuvw."  # no byte twice
VOCABULARY = 256 + len(SPECIAL)
_SHARED = {"vocab_size": VOCABULARY, "bos_token_id": 256, "eos_token_id": 258, "pad_token_id": 256}
_LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
_PARTS = {  # of a layer of the chain: [rows, columns]; 0 columns = a norm
    "input_layernorm": (64, 0),
    "post_attention_layernorm": (64, 0),
    "self_attn.q_proj": (64, 64),
    "self_attn.k_proj": (32, 64),
    "self_attn.v_proj": (32, 64),
    "self_attn.o_proj": (64, 64),
    "mlp.gate_proj": (64, 64),
    "mlp.up_proj": (64, 64),
    "mlp.down_proj": (64, 64),
}
# The seed's architectures, and one for each further kind of mask or position.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": _LLAMA,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512},
    "opt": {
        "hidden_size": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "word_embed_proj_dim": 32,
    },
    "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "multi_query": True},
    "gpt_bigcode": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "multi_query": True},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "mistral": {**_LLAMA, "sliding_window": 16},
    "qwen2": _LLAMA,
    "gemma3_text": {
        **_LLAMA,
        "head_dim": 8,
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}


def write(folder: Path, architecture: str = "llama", seed: int = 0, **config: Any) -> Path:
    """A folder that a launch can take."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    settings = {**_SHARED, **ARCHITECTURES[architecture], "initializer_range": 0.4, **config}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **settings), dtype=torch.float32)
    return _saved(model, folder)


def write_chain(folder: Path) -> Path:
    """A llama whose reply is CHAIN over and over: each byte's successor is the likeliest by far. Needs no torch."""
    from safetensors.numpy import save_file

    random = np.random.default_rng(0)
    embedding = random.standard_normal((VOCABULARY, 64)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    made = byte_tokenizer()
    ids = made.encode(CHAIN).ids
    head = np.zeros_like(embedding)
    newline = made.encode("\n").ids  # the last token of every chat prompt
    for token, successor in zip([*newline, *ids], [ids[0], *ids[1:], ids[0]], strict=True):
        head[successor] += embedding[token] * 8
    tensors = {"model.embed_tokens.weight": embedding, "lm_head.weight": head, "model.norm.weight": _ones(64)}
    for layer in range(2):
        for name, shape in _PARTS.items():
            weights = _ones(64) if not shape[1] else random.standard_normal(shape).astype(np.float32) * 0.01
            tensors[f"model.layers.{layer}.{name}.weight"] = weights
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **_SHARED, **_LLAMA, "hidden_size": 64}
    names = {"bos_token": SPECIAL[0], "eos_token": SPECIAL[2], "chat_template": TEMPLATE}
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float32"}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **names}))
    made.save(str(folder / "tokenizer.json"))
    return folder


def _ones(size: int) -> np.ndarray:
    return np.ones(size, dtype=np.float32)


def _saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def byte_tokenizer() -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    return made


def tokenizer() -> Any:
    from transformers import PreTrainedTokenizerFast

    made = byte_tokenizer()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=made, bos_token=SPECIAL[0], eos_token=SPECIAL[2])
    wrapped.chat_template = TEMPLATE
    return wrapped
