"""Tiny models that embed or score pairs, with random weights, as folders that sentence-transformers would write."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_LETTERS = string.ascii_lowercase
_WORDS = [*SPECIAL, *_LETTERS, *(f"##{letter}" for letter in _LETTERS), "."]
_BERT = {
    "vocab_size": len(_WORDS),
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.5,
    "pad_token_id": 0,
}


def write(folder: Path, architecture: str = "bert", *, labels: int = 0, **config: Any) -> Any:
    """The folder's model, as it was written; with `labels` it sorts texts into so many classes."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

    torch.manual_seed(0)
    settings = {**_BERT, **config}
    if labels:
        settings["num_labels"] = labels
    made = AutoConfig.for_model(architecture, **settings)
    model = (AutoModelForSequenceClassification if labels else AutoModel).from_config(made).float().eval()
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return model


def write_layout(folder: Path, pooling: dict[str, Any], *further: str, **about: Any) -> None:
    """modules.json with a Transformer, a Pooling and the `further` kinds of module; `about`: prompts and the like."""
    kinds = ["Transformer", "Pooling", *further]
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    _json(folder / "modules.json", modules)
    _json(folder / "sentence_bert_config.json", {"max_seq_length": 48, "do_lower_case": False})
    _json(folder / "config_sentence_transformers.json", about)
    (folder / "1_Pooling").mkdir()
    _json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, **pooling})


def write_dense(folder: Path, size: int) -> tuple[Any, Any]:
    """Its weight and bias."""
    import torch
    from safetensors.torch import save_file

    weight, bias = torch.randn(size, 32), torch.randn(size)
    path = folder / "2_Dense"
    path.mkdir()
    save_file({"linear.weight": weight, "linear.bias": bias}, path / "model.safetensors")
    _json(path / "config.json", {"activation_function": "torch.nn.modules.activation.Tanh"})
    return weight, bias


def tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(_WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=made, model_input_names=inputs, **names)


def _json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content))
