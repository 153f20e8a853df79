"""Old families in classes of transformers: their logits against a forward pass written from the published formulas."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_causal
import torch
from safetensors.torch import save_file
from test_transformers_models import TO_THE_END, load, run

from xin.backends.base import Request
from xin.errors import LoadFailed
from xin.worker.frames import Sampling

pytestmark = pytest.mark.filterwarnings("default")  # what libraries warn of is theirs
SIZE, INNER, HEADS, LAYERS, VOCABULARY = 32, 48, 4, 2, 512
IDS = [5, 77, 104, 300, 12, 9, 44]
Tensors = dict[str, torch.Tensor]
Projection = Callable[[torch.Tensor], torch.Tensor]


def linear(tensors: Tensors, name: str) -> Projection:
    return lambda x: torch.nn.functional.linear(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))


def norm(tensors: Tensors, name: str, x: torch.Tensor) -> torch.Tensor:
    return tensors[f"{name}.weight"] * x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def rotated(x: torch.Tensor) -> torch.Tensor:
    """[tokens, heads, head size], turned by position: the first half against the second."""
    half = x.shape[-1] // 2
    angles = torch.arange(len(x))[:, None] / 10000 ** (torch.arange(half) / half)
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    q, k, v = (part.view(len(part), HEADS, -1) for part in (q, k, v))
    q, k = rotated(q), rotated(k)
    scores = torch.einsum("qhd,khd->hqk", q, k) / (SIZE // HEADS) ** 0.5
    scores += torch.full((len(q), len(q)), -torch.inf).triu(1)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).reshape(len(q), SIZE)


def baichuan(tensors: Tensors, ids: list[int]) -> torch.Tensor:
    x = tensors["model.embed_tokens.weight"][ids]
    for i in range(LAYERS):
        at = f"model.layers.{i}"
        q, k, v = linear(tensors, f"{at}.self_attn.W_pack")(norm(tensors, f"{at}.input_layernorm", x)).chunk(3, -1)
        x = x + linear(tensors, f"{at}.self_attn.o_proj")(attention(q, k, v))
        x = x + gated(tensors, at, norm(tensors, f"{at}.post_attention_layernorm", x))
    return linear(tensors, "lm_head")(norm(tensors, "model.norm", x))


def internlm(tensors: Tensors, ids: list[int]) -> torch.Tensor:
    x = tensors["model.embed_tokens.weight"][ids]
    for i in range(LAYERS):
        at = f"model.layers.{i}"
        seen = norm(tensors, f"{at}.input_layernorm", x)
        q, k, v = (linear(tensors, f"{at}.self_attn.{part}_proj")(seen) for part in "qkv")
        x = x + linear(tensors, f"{at}.self_attn.o_proj")(attention(q, k, v))
        x = x + gated(tensors, at, norm(tensors, f"{at}.post_attention_layernorm", x))
    return linear(tensors, "lm_head")(norm(tensors, "model.norm", x))


def gated(tensors: Tensors, at: str, x: torch.Tensor) -> torch.Tensor:
    gate, up, down = (linear(tensors, f"{at}.mlp.{part}_proj") for part in ("gate", "up", "down"))
    return down(torch.nn.functional.silu(gate(x)) * up(x))


def qwen(tensors: Tensors, ids: list[int]) -> torch.Tensor:
    x = tensors["transformer.wte.weight"][ids]
    for i in range(LAYERS):
        at = f"transformer.h.{i}"
        q, k, v = linear(tensors, f"{at}.attn.c_attn")(norm(tensors, f"{at}.ln_1", x)).chunk(3, -1)
        x = x + linear(tensors, f"{at}.attn.c_proj")(attention(q, k, v))
        seen = norm(tensors, f"{at}.ln_2", x)
        inner = linear(tensors, f"{at}.mlp.w1")(seen) * torch.nn.functional.silu(linear(tensors, f"{at}.mlp.w2")(seen))
        x = x + linear(tensors, f"{at}.mlp.c_proj")(inner)
    return linear(tensors, "lm_head")(norm(tensors, "transformer.ln_f", x))


LLAMA_LAYER = {
    "input_layernorm.weight": (SIZE,),
    "post_attention_layernorm.weight": (SIZE,),
    "self_attn.o_proj.weight": (SIZE, SIZE),
    "mlp.gate_proj.weight": (INNER, SIZE),
    "mlp.up_proj.weight": (INNER, SIZE),
    "mlp.down_proj.weight": (SIZE, INNER),
}
SHAPES: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    "baichuan": ("model.layers", {**LLAMA_LAYER, "self_attn.W_pack.weight": (3 * SIZE, SIZE)}),
    "internlm": (
        "model.layers",
        LLAMA_LAYER
        | {f"self_attn.{part}_proj.weight": (SIZE, SIZE) for part in "qkv"}
        | {f"self_attn.{part}_proj.bias": (SIZE,) for part in "qkvo"},
    ),
    "qwen": (
        "transformer.h",
        {
            "ln_1.weight": (SIZE,),
            "ln_2.weight": (SIZE,),
            "attn.c_attn.weight": (3 * SIZE, SIZE),
            "attn.c_attn.bias": (3 * SIZE,),
            "attn.c_proj.weight": (SIZE, SIZE),
            "mlp.w1.weight": (INNER, SIZE),
            "mlp.w2.weight": (INNER, SIZE),
            "mlp.c_proj.weight": (SIZE, INNER),
        },
    ),
}
CONFIG: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": SIZE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}
LLAMA_CONFIG = {"intermediate_size": INNER, "rms_norm_eps": 1e-6, "hidden_act": "silu", "max_position_embeddings": 256}
CONFIGS: dict[str, dict[str, Any]] = {
    "baichuan": LLAMA_CONFIG,
    "internlm": {**LLAMA_CONFIG, "bias": True, "rotary": {"base": 10000, "type": "dynamic"}},
    "qwen": {"intermediate_size": 2 * INNER, "seq_length": 256, "layer_norm_epsilon": 1e-6, "rotary_emb_base": 10000},
}


def write(folder: Path, family: str, **config: Any) -> Tensors:
    """A repository as its makers publish it; its own code would fail the test if it ran."""
    torch.manual_seed(3)
    prefix, shapes = SHAPES[family]
    named = [(f"{prefix}.{i}.{name}", shape) for i in range(LAYERS) for name, shape in shapes.items()]
    tensors = {name: torch.randn(shape) * 0.4 for name, shape in named}
    tensors[f"{prefix}.0.rotary_emb.inv_freq"] = torch.ones(4)
    top, last = ("transformer.wte", "transformer.ln_f") if family == "qwen" else ("model.embed_tokens", "model.norm")
    tensors |= {f"{name}.weight": torch.randn(VOCABULARY, SIZE) for name in (top, "lm_head")}
    tensors[f"{last}.weight"] = torch.randn(SIZE)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors")
    own = dict.fromkeys(("AutoConfig", "AutoModelForCausalLM"), "own.Own")
    code = {"auto_map": {**own, "AutoTokenizer": ["own.Own", None]}}
    told = {"model_type": family, "architectures": ["OwnForCausalLM"], **CONFIG, **CONFIGS[family], **code, **config}
    (folder / "config.json").write_text(json.dumps(told))
    (folder / "tokenizer_config.json").write_text(json.dumps({**code, "tokenizer_class": "Own"}))
    (folder / "own.py").write_text("raise RuntimeError('this code ran')\n")
    if family == "qwen":
        ranks = [bytes([i]) for i in range(256)] + [b"th", b"the"]
        lines = [base64.b64encode(token) + b" %d" % rank for rank, token in enumerate(ranks)]
        (folder / "qwen.tiktoken").write_bytes(b"\n".join(lines))
    else:
        tiny_causal.byte_tokenizer().save(str(folder / "tokenizer.json"))
    return tensors


@pytest.mark.parametrize(("family", "reference"), [("baichuan", baichuan), ("internlm", internlm), ("qwen", qwen)])
def test_its_logits_are_those_of_the_published_formula(tmp_path: Path, family: str, reference: Any) -> None:
    tensors = write(tmp_path / family, family)
    engine = load(tmp_path / family)
    with torch.inference_mode():
        found = engine._model(torch.tensor([IDS])).logits[0]
        expected = reference(tensors, IDS)
    assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-3)
    assert sum(output.tokens for output in run(engine, Request(1, IDS, TO_THE_END, 6))[1]) == 6
    last = int(expected[-1].argmax())
    stopped = run(engine, Request(2, IDS, Sampling(temperature=0.0), 6, stop_token_ids=frozenset({last})))[2]
    assert stopped[-1].finish_reason == "stop" and sum(output.tokens for output in stopped) == 0


def test_qwens_own_vocabulary_is_read(tmp_path: Path) -> None:
    write(tmp_path / "qwen", "qwen")
    engine = load(tmp_path / "qwen")
    ids = engine.tokenize("the 世<|im_end|>", False, True)
    assert ids[0] == 257 and ids[-1] == 260
    assert engine.detokenize(ids) == "the 世<|im_end|>".encode()


def test_alibi_positions_are_refused_with_a_way_out(tmp_path: Path) -> None:
    write(tmp_path / "baichuan", "baichuan")
    config = json.loads((tmp_path / "baichuan" / "config.json").read_text())
    del config["max_position_embeddings"]
    (tmp_path / "baichuan" / "config.json").write_text(json.dumps(config))
    with pytest.raises(LoadFailed, match="ALiBi") as caught:
        load(tmp_path / "baichuan")
    assert "GGUF" in (caught.value.hint or "")
