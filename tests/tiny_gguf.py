"""GGUFs of a few hundred KB in the shapes that memory is counted differently for. Their weights are noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

LAYERS, EMBED, HEADS, KV_HEADS, HEAD, FFN, VOCABULARY, CONTEXT = 4, 128, 4, 2, 32, 256, 320, 4096
Tensors = Iterator[tuple[str, tuple[int, ...]]]


def write(architecture: str, path: Path, *, split_after: int = 0, scale: float = 0.02) -> Path:
    """One of ARCHITECTURES or RANKERS; tensors are f16 where they are matrices. The first part, when it is split."""
    writer = gguf.GGUFWriter(path, architecture.partition(":")[0], split_max_tensors=split_after)
    _common(writer)
    extra, tensors = {**ARCHITECTURES, **RANKERS}[architecture]
    for key, value in extra.items():
        getattr(writer, f"add_{key}")(value)
    _vocabulary(writer, "bert" if architecture.startswith("bert") else "llama")
    noise = np.random.default_rng(7)
    for name, shape in tensors():
        kind = np.float16 if len(shape) > 1 and "ssm" not in name and "shortconv.conv" not in name else np.float32
        writer.add_tensor(name, noise.normal(0, scale, tuple(reversed(shape))).astype(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return next(path.parent.glob(f"{path.stem}-00001-of-*.gguf")) if split_after else path


def _common(writer: Any) -> None:
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(EMBED)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_layer_norm_eps(1e-5)
    writer.add_file_type(1)


def _vocabulary(writer: Any, model: str) -> None:
    if model == "bert":
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        tokens = [*words, *(f"▁w{index}" for index in range(VOCABULARY - len(words)))]
        types = [3] * len(words) + [1] * (VOCABULARY - len(words))
        writer.add_token_type_count(2)
    else:
        tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
        tokens += [f"▁{index}" for index in range(VOCABULARY - len(tokens))]
        types = [2, 3, 3, *[6] * 256, *[1] * (VOCABULARY - 259)]
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * VOCABULARY)
    writer.add_token_types(types)


def _ends(*, output: bool = False) -> Tensors:
    yield "token_embd.weight", (EMBED, VOCABULARY)
    yield "output_norm.weight", (EMBED,)
    if output:
        yield "output.weight", (EMBED, VOCABULARY)


def _attention(block: str, kv_heads: int = KV_HEADS) -> Tensors:
    yield f"{block}.attn_norm.weight", (EMBED,)
    yield f"{block}.attn_q.weight", (EMBED, HEADS * HEAD)
    yield f"{block}.attn_k.weight", (EMBED, kv_heads * HEAD)
    yield f"{block}.attn_v.weight", (EMBED, kv_heads * HEAD)
    yield f"{block}.attn_output.weight", (HEADS * HEAD, EMBED)


def _ffn(block: str) -> Tensors:
    yield f"{block}.ffn_norm.weight", (EMBED,)
    yield f"{block}.ffn_gate.weight", (EMBED, FFN)
    yield f"{block}.ffn_up.weight", (EMBED, FFN)
    yield f"{block}.ffn_down.weight", (FFN, EMBED)


def _experts(block: str, count: int = 4, width: int = FFN) -> Tensors:
    yield f"{block}.ffn_gate_inp.weight", (EMBED, count)
    yield f"{block}.ffn_gate_exps.weight", (EMBED, width, count)
    yield f"{block}.ffn_up_exps.weight", (EMBED, width, count)
    yield f"{block}.ffn_down_exps.weight", (width, EMBED, count)


def _blocks() -> Iterator[str]:
    return (f"blk.{index}" for index in range(LAYERS))


def _llama() -> Tensors:
    yield from _ends()
    for block in _blocks():
        yield from _attention(block)
        yield from _ffn(block)


def _qwen2() -> Tensors:
    yield from _ends(output=True)
    for block in _blocks():
        yield from _attention(block)
        yield f"{block}.attn_q.bias", (HEADS * HEAD,)
        yield f"{block}.attn_k.bias", (KV_HEADS * HEAD,)
        yield f"{block}.attn_v.bias", (KV_HEADS * HEAD,)
        yield from _ffn(block)


def _mixtral() -> Tensors:
    yield from _ends(output=True)
    for block in _blocks():
        yield from _attention(block)
        yield f"{block}.ffn_norm.weight", (EMBED,)
        yield from _experts(block)


def _qwen2moe() -> Tensors:
    yield from _ends(output=True)
    for block in _blocks():
        yield from _attention(block)
        yield f"{block}.ffn_norm.weight", (EMBED,)
        yield from _experts(block, width=64)
        yield f"{block}.ffn_gate_inp_shexp.weight", (EMBED,)
        yield f"{block}.ffn_gate_shexp.weight", (EMBED, FFN)
        yield f"{block}.ffn_up_shexp.weight", (EMBED, FFN)
        yield f"{block}.ffn_down_shexp.weight", (FFN, EMBED)


def _gemma2() -> Tensors:
    yield from _llama()
    for block in _blocks():
        yield f"{block}.post_attention_norm.weight", (EMBED,)
        yield f"{block}.post_ffw_norm.weight", (EMBED,)


def _gemma3() -> Tensors:
    yield from _gemma2()
    for block in _blocks():
        yield f"{block}.attn_q_norm.weight", (HEAD,)
        yield f"{block}.attn_k_norm.weight", (HEAD,)


def _phi3() -> Tensors:
    yield from _ends(output=True)
    for block in _blocks():
        yield f"{block}.attn_norm.weight", (EMBED,)
        yield f"{block}.attn_qkv.weight", (EMBED, (HEADS + 2 * KV_HEADS) * HEAD)
        yield f"{block}.attn_output.weight", (EMBED, EMBED)
        yield f"{block}.ffn_norm.weight", (EMBED,)
        yield f"{block}.ffn_up.weight", (EMBED, 2 * FFN)
        yield f"{block}.ffn_down.weight", (FFN, EMBED)


def _gpt2() -> Tensors:
    yield from _ends()
    yield "position_embd.weight", (EMBED, CONTEXT)
    yield "output_norm.bias", (EMBED,)
    for block in _blocks():
        for name, shape in (("attn_qkv", 3 * EMBED), ("attn_output", EMBED), ("ffn_up", FFN)):
            yield f"{block}.{name}.weight", (EMBED, shape)
            yield f"{block}.{name}.bias", (shape,)
        yield f"{block}.ffn_down.weight", (FFN, EMBED)
        yield f"{block}.ffn_down.bias", (EMBED,)
        for name in ("attn_norm", "ffn_norm"):
            yield f"{block}.{name}.weight", (EMBED,)
            yield f"{block}.{name}.bias", (EMBED,)


_RANK, _ROPE, _NOPE = 64, 32, 32  # of latent attention


def _deepseek2() -> Tensors:
    yield from _ends(output=True)
    for block in _blocks():
        yield f"{block}.attn_norm.weight", (EMBED,)
        yield f"{block}.attn_q_a_norm.weight", (48,)
        yield f"{block}.attn_kv_a_norm.weight", (_RANK,)
        yield f"{block}.attn_q_a.weight", (EMBED, 48)
        yield f"{block}.attn_q_b.weight", (48, HEADS * (_NOPE + _ROPE))
        yield f"{block}.attn_kv_a_mqa.weight", (EMBED, _RANK + _ROPE)
        yield f"{block}.attn_k_b.weight", (_NOPE, _RANK, HEADS)
        yield f"{block}.attn_v_b.weight", (_RANK, HEAD, HEADS)
        yield f"{block}.attn_output.weight", (HEADS * HEAD, EMBED)
        if block == "blk.0":
            yield from _ffn(block)
            continue
        yield f"{block}.ffn_norm.weight", (EMBED,)
        yield from _experts(block, width=64)
        yield f"{block}.ffn_gate_shexp.weight", (EMBED, 64)
        yield f"{block}.ffn_up_shexp.weight", (EMBED, 64)
        yield f"{block}.ffn_down_shexp.weight", (64, EMBED)


_INNER, _STATE, _CONV, _DT = 2 * EMBED, 16, 4, 8  # of state-space layers


def _state_space(block: str) -> Tensors:
    yield f"{block}.attn_norm.weight", (EMBED,)
    yield f"{block}.ssm_in.weight", (EMBED, 2 * _INNER)
    yield f"{block}.ssm_conv1d.weight", (_CONV, _INNER)
    yield f"{block}.ssm_conv1d.bias", (_INNER,)
    yield f"{block}.ssm_x.weight", (_INNER, _DT + 2 * _STATE)
    yield f"{block}.ssm_dt.weight", (_DT, _INNER)
    yield f"{block}.ssm_dt.bias", (_INNER,)
    yield f"{block}.ssm_a", (_STATE, _INNER)
    yield f"{block}.ssm_d", (_INNER,)
    yield f"{block}.ssm_out.weight", (_INNER, EMBED)


def _mamba() -> Tensors:
    yield from _ends()
    for block in _blocks():
        yield from _state_space(block)


def _jamba() -> Tensors:
    yield from _ends(output=True)
    for index, block in enumerate(_blocks()):
        if index % 2:
            yield from _attention(block)
        else:
            yield from _state_space(block)
            yield f"{block}.ssm_dt_norm.weight", (_DT,)
            yield f"{block}.ssm_b_norm.weight", (_STATE,)
            yield f"{block}.ssm_c_norm.weight", (_STATE,)
        yield from _ffn(block)


def _lfm2() -> Tensors:
    yield "token_embd.weight", (EMBED, VOCABULARY)
    yield "token_embd_norm.weight", (EMBED,)
    for index, block in enumerate(_blocks()):
        if index % 2:
            yield from _attention(block)
            yield f"{block}.attn_q_norm.weight", (HEAD,)
            yield f"{block}.attn_k_norm.weight", (HEAD,)
        else:
            yield f"{block}.attn_norm.weight", (EMBED,)
            yield f"{block}.shortconv.conv.weight", (3, EMBED)
            yield f"{block}.shortconv.in_proj.weight", (EMBED, 3 * EMBED)
            yield f"{block}.shortconv.out_proj.weight", (EMBED, EMBED)
        yield from _ffn(block)


def _bert() -> Tensors:
    yield "token_embd.weight", (EMBED, VOCABULARY)
    yield "token_types.weight", (EMBED, 2)
    yield "position_embd.weight", (EMBED, CONTEXT)
    for name in ("token_embd_norm", *(f"{block}.{norm}" for block in _blocks() for norm in _BERT_NORMS)):
        yield f"{name}.weight", (EMBED,)
        yield f"{name}.bias", (EMBED,)
    for block in _blocks():
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"{block}.{name}.weight", (EMBED, EMBED)
            yield f"{block}.{name}.bias", (EMBED,)
        yield f"{block}.ffn_up.weight", (EMBED, FFN)
        yield f"{block}.ffn_up.bias", (FFN,)
        yield f"{block}.ffn_down.weight", (FFN, EMBED)
        yield f"{block}.ffn_down.bias", (EMBED,)


def _bert_rank() -> Tensors:
    yield from _bert()
    yield "cls.weight", (EMBED, EMBED)
    yield "cls.bias", (EMBED,)
    yield "cls.output.weight", (EMBED, 1)
    yield "cls.output.bias", (1,)


def _qwen3_rank() -> Tensors:
    yield from _llama()
    for block in _blocks():
        yield f"{block}.attn_q_norm.weight", (HEAD,)
        yield f"{block}.attn_k_norm.weight", (HEAD,)
    yield "cls.output.weight", (EMBED, 2)


_BERT_NORMS = ("attn_output_norm", "layer_output_norm")
_GROUPED = {"head_count_kv": KV_HEADS, "key_length": HEAD, "value_length": HEAD, "rope_dimension_count": HEAD}
_EXPERTS = {"expert_count": 4, "expert_used_count": 2}
_SSM = {"ssm_conv_kernel": _CONV, "ssm_inner_size": _INNER, "ssm_state_size": _STATE, "ssm_time_step_rank": _DT}
_LATENT = {
    "head_count_kv": 1,
    "q_lora_rank": 48,
    "kv_lora_rank": _RANK,
    "rope_dimension_count": _ROPE,
    "key_length": _RANK + _ROPE,
    "value_length": _RANK,
    "key_length_mla": _NOPE + _ROPE,
    "value_length_mla": HEAD,
    "leading_dense_block_count": 1,
    "expert_feed_forward_length": 64,
    "expert_shared_count": 1,
    "expert_weights_scale": 1.0,
    "vocab_size": VOCABULARY,
}
_SWA = {"sliding_window": 256}
_BERT = {"head_count_kv": HEADS, "causal_attention": False, "pooling_type": gguf.PoolingType.MEAN}
ARCHITECTURES: dict[str, tuple[dict[str, Any], Callable[[], Tensors]]] = {
    "llama": (_GROUPED, _llama),
    "qwen2": (_GROUPED, _qwen2),
    "llama:moe": ({**_GROUPED, **_EXPERTS}, _mixtral),
    "qwen2moe": ({**_GROUPED, **_EXPERTS, "expert_feed_forward_length": 64}, _qwen2moe),
    "gemma2": ({**_GROUPED, **_SWA}, _gemma2),
    "gemma3": ({**_GROUPED, **_SWA}, _gemma3),
    "phi3": (_GROUPED, _phi3),
    "gpt2": ({"head_count_kv": HEADS}, _gpt2),
    "deepseek2": ({**_LATENT, **_EXPERTS}, _deepseek2),
    "mamba": (_SSM, _mamba),
    "jamba": ({**_SSM, "head_count_kv": [0, KV_HEADS] * 2}, _jamba),
    "lfm2": ({"head_count_kv": [0, KV_HEADS] * 2, "shortconv_l_cache": 3}, _lfm2),
    "bert": (_BERT, _bert),
}
RERANK_TEMPLATE = "<s>query {query} document {document}</s>"
RANKERS: dict[str, tuple[dict[str, Any], Callable[[], Tensors]]] = {
    "bert:rank": ({**_BERT, "pooling_type": gguf.PoolingType.RANK}, _bert_rank),
    "qwen3:rank": (
        {
            **_GROUPED,
            "pooling_type": gguf.PoolingType.RANK,
            "classifier_output_labels": ["yes", "no"],
            "chat_template": [{"name": "rerank", "template": RERANK_TEMPLATE}],
        },
        _qwen3_rank,
    ),
}
