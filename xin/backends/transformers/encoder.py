"""The transformers engine for models that do not write: embedding models and cross-encoders."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

from xin.backends.base import Engine, Output, Progress, Request, Weights
from xin.backends.transformers.cross_encoder import CrossEncoder
from xin.backends.transformers.embedder import Embedder
from xin.backends.transformers.kind import Kind
from xin.backends.transformers.loading import Loaded, load_encoder
from xin.backends.transformers.options import Options as TransformersOptions
from xin.backends.transformers.sentence_layout import Layout, read_layout
from xin.backends.transformers.threads import Threads
from xin.backends.transformers.vocabulary import Vocabulary
from xin.errors import BadRequest, UnsupportedParameter
from xin.worker.frames import Ready


class EncoderEngine(Engine):
    """Each call is one or more passes over its inputs, in groups of like length."""

    name = "transformers"
    formats = frozenset({"pytorch"})
    Options = TransformersOptions

    def __init__(self, loaded: Loaded, kind: Kind, options: TransformersOptions) -> None:
        self._options = options
        self._threads = Threads(options.threads)
        self._vocabulary = Vocabulary(loaded.tokenizer, int(loaded.config.vocab_size), [])
        self._layout = read_layout(loaded.folder) if kind == "embedding" else Layout()
        self._window = _window(loaded, self._layout, options)
        pad = loaded.tokenizer.pad_token_id or 0
        self._embedder: Embedder | None = None
        self._scorer: CrossEncoder | None = None
        size = 0
        if kind == "embedding":
            self._embedder = Embedder(loaded.model, self._layout, limit=self._window, pad=pad)
            size = self._embedder.vectors([[pad]]).shape[-1]
        else:
            has_types = "token_type_ids" in loaded.tokenizer.model_input_names
            has_types = has_types and getattr(loaded.config, "type_vocab_size", 0) > 1
            self._scorer = CrossEncoder(
                loaded.model, self._vocabulary, limit=self._window, pad=pad, has_types=has_types
            )
        self._shorter = _shorter_sizes(loaded.config)
        self._ready = self._describe(loaded, size)

    @classmethod
    def load(cls, weights: Weights, options: Any, progress: Progress) -> Engine:
        return cls.load_as("embedding", weights, options, progress)

    @classmethod
    def load_as(cls, kind: Kind, weights: Weights, options: TransformersOptions, progress: Progress) -> EncoderEngine:
        loaded = load_encoder(weights, options, progress, scores=kind == "cross-encoder")
        progress(0.95, "warming up")
        return cls(loaded, kind, options)

    def describe(self) -> Ready:
        return self._ready

    def submit(self, request: Request) -> None:
        raise self._writes_nothing()

    def render(self, messages: list[dict[str, Any]], template_kwargs: dict[str, Any]) -> list[int]:
        raise self._writes_nothing()

    def cancel(self, request_id: int, index: int | None = None) -> None:
        return

    def step(self) -> list[Output]:
        return []

    def busy(self) -> bool:
        return False

    def tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        text = text.lower() if self._layout.lower_case else text
        return self._vocabulary.tokenize(text, add_special, parse_special)

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        return self._vocabulary.detokenize(tokens)

    def embedding_tokens(self, text: str) -> list[int]:
        return self.tokenize(self._layout.prompt + text, True, False)

    def can_shorten(self, dimensions: int) -> bool:
        return self._options.matryoshka or dimensions in self._shorter

    def embed(self, inputs: list[list[int]]) -> list[bytes]:
        if self._embedder is None:
            raise UnsupportedParameter("this model reranks: it gives no embeddings", "use /v1/rerank", param="model")
        return self._embedder.embed(inputs)

    def rerank(self, query: str, documents: list[str]) -> tuple[list[float], int]:
        if self._scorer is None:
            raise UnsupportedParameter("this model embeds: it does not rerank", "use /v1/embeddings", param="model")
        return self._scorer.rerank(query, documents)

    def set_threads(self, n: int) -> None:
        self._threads.set(n)

    def _writes_nothing(self) -> UnsupportedParameter:
        does, route = ("embeds", "/v1/embeddings") if self._embedder else ("reranks", "/v1/rerank")
        return UnsupportedParameter(f"this model does not write: it {does}", f"use {route}", param="model")

    def _describe(self, loaded: Loaded, size: int) -> Ready:
        dtype = str(loaded.model.dtype).removeprefix("torch.")
        return Ready(
            context_length=self._window,
            n_parallel=1,
            vocabulary_size=self._vocabulary.size,
            embedding_size=size,
            abilities=["embed" if self._embedder else "rerank"],
            description=f"{type(loaded.model).__name__}, {dtype} on {loaded.model.device}",
            engine_version=metadata.version("transformers"),
            memory_bytes={"weights": int(loaded.model.get_memory_footprint())},
            threads=self._threads.count,
            notes=loaded.notes,
        )


def _window(loaded: Loaded, layout: Layout, options: TransformersOptions) -> int:
    """BadRequest for one over the positions that there are; RoBERTa's first is the one after the padding's."""
    positions = loaded.trained_context
    if loaded.config.model_type in ("roberta", "xlm-roberta", "camembert"):
        positions -= loaded.config.pad_token_id + 1
    asked = options.context_length
    if asked is not None and asked > positions:
        message = f"this model has {positions} positions, not {asked}"
        raise BadRequest(message, f"at most {positions}", param="context_length")
    return asked or min(layout.max_tokens or positions, positions)


def _shorter_sizes(config: Any) -> frozenset[int]:
    """Sizes that the vectors were trained to be cut to, where the configuration tells."""
    told = getattr(config, "matryoshka_dimensions", None)
    return frozenset(told) if isinstance(told, list) else frozenset()
