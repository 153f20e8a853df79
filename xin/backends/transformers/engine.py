"""The transformers engine: causal language models in PyTorch, under a batched step loop of our own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from xin.backends.base import Engine, Load, Output, Progress, Request, Seen, Weights
from xin.backends.transformers.options import Options as TransformersOptions
from xin.backends.transformers.threads import Threads
from xin.errors import BadRequest, LoadFailed, UnsupportedParameter
from xin.worker.frames import Constraint, Ready

if TYPE_CHECKING:
    from xin.backends.transformers.embedder import Embedder
    from xin.backends.transformers.forward import Forward
    from xin.backends.transformers.judge import Judge
    from xin.backends.transformers.loading import Loaded
    from xin.backends.transformers.row_cache import RowCache
    from xin.chat.constraint import ConstraintFactory

_LONGEST_DEFAULT = 8192
_SHARE_OF_FREE = 0.5  # of the free memory, for keys and values
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # what is loaded is on this machine: nothing else is asked for
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}


class TransformersEngine(Engine):
    name = "transformers"
    formats = frozenset({"pytorch", "gguf"})
    requires = ("torch", "transformers", "accelerate", "safetensors")
    Options = TransformersOptions

    def __init__(self, loaded: Loaded, options: TransformersOptions, weights: Weights) -> None:
        from xin.backends.prefix_cache import PrefixCache
        from xin.backends.prompt import Prompt
        from xin.backends.transformers.forward import Forward
        from xin.backends.transformers.scheduler import Scheduler
        from xin.backends.transformers.vocabulary import Vocabulary

        self._model = loaded.model
        self._options = options
        self._eyes = loaded.eyes
        self._window = _window(loaded, options)
        self._threads = Threads(options.threads)
        forward = Forward(loaded.model)
        size, warm = _warm_up(forward)
        self._vocabulary = Vocabulary(loaded.tokenizer, size, loaded.end_ids)
        self._scheduler = Scheduler(
            forward,
            self._vocabulary,
            PrefixCache(options.prefix_cache, options.prefix_cache_mib * 2**20, self._vocabulary),
            window=self._window,
            n_parallel=options.n_parallel,
            n_batch=options.n_batch,
            kv_cells=options.kv_cells or _cells(forward.device, warm.cell_bytes, self._window, options.n_parallel),
            cell_bytes=warm.cell_bytes,
            devices=warm.devices,
        )
        template = options.chat_template or _template(loaded.tokenizer)
        if template is None and loaded.eyes is not None:
            template = loaded.eyes.template
        self._prompt = Prompt(self._vocabulary, weights, template)
        self._embedder: Embedder | None = None
        self._judge = self._made_judge() if weights.abilities == ["rerank"] else None
        self._constraints: ConstraintFactory | None = None
        self._ready = self._describe(loaded, forward.device)

    @classmethod
    def load(cls, weights: Weights, options: TransformersOptions, progress: Progress) -> Engine:
        """Models that write, that embed and that score pairs are told apart by their files."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from xin.backends.transformers.kind import kind_of

        kind = kind_of(weights.paths[0]) if weights.paths else "causal"
        progress(0.0, "importing torch")
        if kind == "speech":
            from xin.backends.transformers.speech import SpeechEngine

            return SpeechEngine.load(weights, options, progress)
        if kind not in ("causal", "image-text"):
            from xin.backends.transformers.encoder import EncoderEngine

            return EncoderEngine.load_as(kind, weights, options, progress)
        from xin.backends.transformers.loading import load_causal, load_image_text

        loaded = (load_causal if kind == "causal" else load_image_text)(weights, options, progress)
        progress(0.95, "warming up")
        return cls(loaded, options, weights)

    def describe(self) -> Ready:
        return self._ready

    def submit(self, request: Request) -> None:
        self._scheduler.submit(request)

    def cancel(self, request_id: int, index: int | None = None) -> None:
        self._scheduler.cancel(request_id, index)

    def busy(self) -> bool:
        return self._scheduler.busy()

    def step(self) -> list[Output]:
        return self._scheduler.step()

    def load_now(self) -> Load:
        return self._scheduler.load_now()

    def tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        return self._vocabulary.tokenize(text, add_special, parse_special)

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        return self._vocabulary.detokenize(tokens)

    def render(self, messages: list[dict[str, Any]], template_kwargs: dict[str, Any]) -> list[int]:
        return self._prompt.render(messages, template_kwargs)

    def look(self, messages: list[dict[str, Any]], template_kwargs: dict[str, Any]) -> tuple[list[int], Seen | None]:
        from xin.backends.picture import pictures_of

        pictures = pictures_of(messages) if self._eyes is not None else []
        if self._eyes is None or not pictures:
            return self.render(messages, template_kwargs), None
        text, add_special = self._prompt.text(messages, template_kwargs, marker=self._eyes.marker)
        tokens, sight = self._eyes.prepare(text, pictures, add_special)
        return tokens, Seen(sight)

    def tool_format(self) -> str:
        return self._prompt.tool_format

    def infill(self, prefix: str, suffix: str) -> list[int]:
        ids = self._vocabulary.fill_in_the_middle()
        if ids is None:
            message = "suffix: this model cannot fill in the middle"
            raise UnsupportedParameter(message, "leave suffix out", param="suffix")
        before, after, middle = ids
        return [before, *self.tokenize(prefix, False, False), after, *self.tokenize(suffix, False, False), middle]

    def compile(self, constraint: Constraint) -> Any:
        return self._factory().compile(constraint)

    def warm(self) -> None:
        self._factory().warm()

    def embed(self, inputs: list[list[int]]) -> list[bytes]:
        if self._embedder is None:
            from xin.backends.transformers.embedder import Embedder
            from xin.backends.transformers.sentence_layout import Layout

            limit = min(self._window, _LONGEST_DEFAULT)
            self._embedder = Embedder(self._model.base_model, Layout(), limit=limit, pad=0)
        return self._embedder.embed(inputs)

    def rerank(self, query: str, documents: list[str]) -> tuple[list[float], int]:
        if self._judge is None:
            return super().rerank(query, documents)
        return self._judge.rerank(query, documents)

    def set_threads(self, n: int) -> None:
        self._threads.set(n)

    def close(self) -> None:
        self._scheduler.close()
        self._embedder = self._judge = self._model = None

    def _made_judge(self) -> Judge:
        """For a language model that the catalogue knows as a reranker."""
        from xin.backends.transformers.judge import Judge

        return Judge(self._model, self._vocabulary, limit=min(self._window, _LONGEST_DEFAULT))

    def _factory(self) -> ConstraintFactory:
        from xin.chat.constraint import ConstraintFactory

        if self._constraints is None:
            vocabulary = self._vocabulary
            if not vocabulary.end_ids:
                raise UnsupportedParameter("this model has no token that ends an answer", param="response_format")
            self._constraints = ConstraintFactory(
                vocabulary.pieces,
                eos_ids=sorted(vocabulary.end_ids),
                bos_id=vocabulary.bos if vocabulary.bos >= 0 else None,
                special_ids=vocabulary.control_ids,
                tokenize=lambda data: vocabulary.tokenize(data, False, False),
            )
        return self._constraints

    def _describe(self, loaded: Loaded, device: Any) -> Ready:
        abilities = ["generate", "embed"]
        if self._judge is not None:
            abilities = ["rerank"]
        elif self._prompt.can_chat:
            abilities.insert(0, "chat")
            abilities += ["vision"] if self._eyes is not None else []
        dtype = str(loaded.model.dtype).removeprefix("torch.")
        return Ready(
            context_length=self._window,
            n_parallel=self._options.n_parallel,
            vocabulary_size=self._vocabulary.size,
            embedding_size=int(loaded.config.hidden_size),
            abilities=abilities,
            description=f"{type(loaded.model).__name__}, {dtype} on {device}",
            engine_version=metadata.version("transformers"),
            memory_bytes={"weights": int(loaded.model.get_memory_footprint())},
            threads=self._threads.count,
            notes=loaded.notes,
        )


def _window(loaded: Loaded, options: TransformersOptions) -> int:
    trained = loaded.trained_context
    window = options.context_length or min(trained, _LONGEST_DEFAULT)
    if window > trained and loaded.has_learned_positions:
        raise BadRequest(
            f"this model has {trained} positions, not {window}", f"at most {trained}", param="context_length"
        )
    if window > trained:
        loaded.notes.append(f"context_length {window} is over the {trained} it was trained with")
    return window


def _warm_up(forward: Forward) -> tuple[int, RowCache]:
    """One token through all layers: (vocabulary size, what it left)."""
    import torch

    from xin.backends.transformers.row_cache import RowCache

    cache = RowCache()
    cache.open(1)
    with torch.inference_mode():
        logits = forward.run(cache, [[0]])
    if cache.width != 1 or not cache.cell_bytes:
        raise LoadFailed("this model keeps its keys and values in a way that this engine does not know")
    return logits.shape[-1], cache


def _cells(device: Any, cell_bytes: int, window: int, n_parallel: int) -> int:
    """As many as could ever be used, or as half of the free memory holds."""
    import psutil
    import torch

    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return max(window, min(window * n_parallel, int(free * _SHARE_OF_FREE) // cell_bytes))


def _template(tokenizer: Any) -> str | None:
    """The tokenizer's chat template; of several, the default one."""
    found = tokenizer.chat_template
    if isinstance(found, dict):
        found = found.get("default")
    return found if isinstance(found, str) else None
