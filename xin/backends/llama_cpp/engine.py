"""The llama.cpp engine: a model, a context, the scheduler over it, and the chat template from the file's metadata."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from xin.backends.base import Engine, Load, Output, Progress, Request, Seen, Weights
from xin.backends.llama_cpp.options import Options as LlamaCppOptions
from xin.backends.llama_cpp.projector_file import projector_of
from xin.cgroup import free_memory
from xin.errors import LoadFailed, OutOfMemory, UnsupportedParameter, XinError
from xin.worker.frames import Constraint, Ready

if TYPE_CHECKING:
    from xin.backends.llama_cpp.context import Context
    from xin.backends.llama_cpp.draft_model import DraftModel
    from xin.backends.llama_cpp.embedder import Embedder
    from xin.backends.llama_cpp.model import Model
    from xin.backends.llama_cpp.projector import Projector
    from xin.backends.llama_cpp.ranker import Ranker
    from xin.chat.constraint import ConstraintFactory

log = logging.getLogger("xin.llama_cpp")


class LlamaCppEngine(Engine):
    name = "llama.cpp"
    formats = frozenset({"gguf"})
    requires = ("llama_cpp",)
    Options = LlamaCppOptions

    def __init__(self, model: Model, options: LlamaCppOptions, weights: Weights) -> None:
        from xin.backends.llama_cpp.batch import warm_up
        from xin.backends.llama_cpp.context_params import cell_bytes, window_of
        from xin.backends.llama_cpp.ranker import ranks
        from xin.backends.llama_cpp.scheduler import Scheduler
        from xin.backends.prefix_cache import PrefixCache
        from xin.backends.prompt import Prompt

        self._model = model
        self._options = options
        self._threads = options.threads or int(os.environ.get("XIN_THREADS", "0")) or os.cpu_count() or 1
        self._window = window_of(model, options)
        trained = model.trained_context
        if trained and self._window > trained:
            model.notes.append(f"context_length {self._window} is over the {trained} it was trained with")
        self._cell_bytes = cell_bytes(model, options)
        self._draft: DraftModel | None = None
        self._projector = self._load_projector(weights)
        self._context = self._make_context()
        model.attach_adapters(self._context.pointer)
        on_cpu = model.gpu_layers == 0 and self._context.can_rewind
        if options.reader_cells and not on_cpu:
            model.notes.append("reader_cells: only models on the CPU whose caches can be cut have a reader")
        self._scheduler = Scheduler(
            self._context,
            model.vocabulary,
            PrefixCache(options.prefix_cache, options.prefix_cache_mib * 2**20, model.vocabulary),
            window=self._window,
            n_parallel=options.n_parallel,
            n_batch=options.n_batch,
            prompt_lookup=options.prompt_lookup,
            draft_model=self._load_draft_model(),
            projector=self._projector,
            open_reader=self._open_reader if on_cpu and options.reader_cells != 0 else None,
        )
        template = options.chat_template or model.meta("tokenizer.chat_template")
        self._prompt = Prompt(model.vocabulary, weights, template)
        self._embedder: Embedder | None = None
        self._ranker: Ranker | None = None
        self._constraints: ConstraintFactory | None = None
        if not ranks(model):  # they have a context of their own
            warm_up(self._context, model.vocabulary.bos)
        self._ready = self._describe(weights)

    @classmethod
    def load(cls, weights: Weights, options: LlamaCppOptions, progress: Progress) -> LlamaCppEngine:
        from xin.backends.llama_cpp.model import Model
        from xin.backends.llama_cpp.ranker import check

        if not weights.paths:
            raise LoadFailed("no weights were given", "give the path of a .gguf file")
        progress(0.0, "loading")
        model = Model(weights.paths[0], options, progress, weights.shares)
        try:
            check(model, weights.model_name or weights.paths[0])
        except LoadFailed:
            model.close()
            raise
        progress(0.95, "warming up")
        return cls(model, options, weights)

    def describe(self) -> Ready:
        return self._ready

    def submit(self, request: Request) -> None:
        self._scheduler.submit(request)

    def cancel(self, request_id: int, index: int | None = None) -> None:
        self._scheduler.cancel(request_id, index)

    def interrupt(self, request_id: int) -> None:
        self._scheduler.interrupt(request_id)

    def deliver_to(self, deliver: Callable[[list[Output]], None]) -> None:
        self._scheduler.deliver = deliver

    def busy(self) -> bool:
        return self._scheduler.busy()

    def step(self) -> list[Output]:
        return self._scheduler.step()

    def load_now(self) -> Load:
        return self._scheduler.load_now()

    def tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        return self._model.vocabulary.tokenize(text, add_special, parse_special)

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        return self._model.vocabulary.detokenize(tokens)

    def render(self, messages: list[dict[str, Any]], template_kwargs: dict[str, Any]) -> list[int]:
        return self._prompt.render(messages, template_kwargs)

    def look(self, messages: list[dict[str, Any]], template_kwargs: dict[str, Any]) -> tuple[list[int], Seen | None]:
        from xin.backends.picture import pictures_of, with_markers

        projector, pictures = self._projector, pictures_of(messages) if self._projector is not None else []
        if projector is None or not pictures:
            return self.render(messages, template_kwargs), None
        text, add_special = self._prompt.text(with_markers(messages, projector.marker), template_kwargs)
        tokens, images = projector.tokenize(text, pictures, add_special)
        unlisted = sum(image.part.cells - len(image.part.ids) for image in images)
        return tokens, Seen(images, unlisted)

    def tool_format(self) -> str:
        return self._prompt.tool_format

    def infill(self, prefix: str, suffix: str) -> list[int]:
        ids = self._model.vocabulary.fill_in_the_middle()
        if ids is None:
            raise UnsupportedParameter(
                "suffix: this model cannot fill in the middle", "leave suffix out", param="suffix"
            )
        before, after, middle = ids
        return [
            before,
            *self.tokenize(prefix, False, False),
            after,
            *self.tokenize(suffix, False, False),
            middle,
        ]

    def compile(self, constraint: Constraint) -> Any:
        return self._factory().compile(constraint)

    def warm(self) -> None:
        self._factory().warm()

    def _factory(self) -> ConstraintFactory:
        from xin.chat.constraint import ConstraintFactory

        if self._constraints is None:
            vocabulary = self._model.vocabulary
            self._constraints = ConstraintFactory(
                vocabulary.pieces,
                eos_ids=sorted(vocabulary.end_ids),
                bos_id=vocabulary.bos if vocabulary.bos >= 0 else None,
                special_ids=vocabulary.control_ids,
                tokenize=lambda data: vocabulary.tokenize(data, False, False),
            )
        return self._constraints

    def embed(self, inputs: list[list[int]]) -> list[bytes]:
        if "embed" not in self._ready.abilities:
            return super().embed(inputs)
        if self._embedder is None:
            from xin.backends.llama_cpp.embedder import Embedder

            self._embedder = Embedder(self._model, self._window, self._threads)
        return self._embedder.embed(inputs)

    def rerank(self, query: str, documents: list[str]) -> tuple[list[float], int]:
        if "rerank" not in self._ready.abilities:
            return super().rerank(query, documents)
        if self._ranker is None:
            from xin.backends.llama_cpp.ranker import Ranker

            self._ranker = Ranker(self._model, self._window, self._threads)
        return self._ranker.rerank(query, documents)

    def set_threads(self, n: int) -> None:
        if self._options.threads is not None:
            n = min(n, self._options.threads)
        if n != self._threads:
            self._threads = n
            self._scheduler.set_threads(n)
            for part in (self._embedder, self._ranker):
                if part is not None:
                    part.set_threads(n)

    def close(self) -> None:
        self._scheduler.close()
        for part in (self._embedder, self._ranker):
            if part is not None:
                part.close()
        self._embedder = self._ranker = None
        if self._projector is not None:
            self._projector.close()
        self._context.close()
        self._model.close()

    def _make_context(self) -> Any:
        from xin.backends.llama_cpp.context import Context
        from xin.backends.llama_cpp.context_params import context_params

        params = context_params(self._model, self._options, self._threads)
        whole = self._options.swa_full or not self._model.slides  # else what has left the window is gone
        can_rewind = self._model.can_rewind and whole
        return Context(self._model.pointer, params, self._model.vocabulary.size, can_rewind=can_rewind)

    def _open_reader(self, callback: Any) -> Context | None:
        """None, and the cause in the log, where there is no memory for it."""
        from xin.backends.llama_cpp.context import Context
        from xin.backends.llama_cpp.context_params import reader_params

        params = reader_params(self._model, self._options, self._threads, free_memory())
        if params is None:
            log.info("too little RAM is free for a reader: long prompts are read in the streams' steps")
            return None
        params.cb_eval = callback
        try:
            context = Context(self._model.pointer, params, self._model.vocabulary.size, can_rewind=True)
        except OutOfMemory as exc:
            log.warning("no reader of %d cells: %s", params.n_ctx, exc.message)
            return None
        self._model.attach_adapters(context.pointer)
        log.info("a reader of %d tokens: long prompts are read between the streams' steps", context.cells)
        return context

    def _load_projector(self, weights: Weights) -> Projector | None:
        """The one that was asked for; or the one beside the model, which may fail to be it."""
        path = projector_of(weights.paths[0], self._options.mmproj) if weights.paths else None
        if path is None:
            return None
        from xin.backends.llama_cpp.projector import Projector

        try:
            projector = Projector(path, self._model, self._options, self._threads)
        except XinError as exc:
            if self._options.mmproj is not None:
                raise
            self._model.notes.append(f"no images: {exc.message}")
            return None
        self._model.notes.append(f"images through {projector.name}, always with {self._threads} threads")
        return projector

    def _load_draft_model(self) -> DraftModel | None:
        from xin.backends.llama_cpp.draft_model import DraftModel

        if self._options.draft_model is None:
            return None
        self._draft = DraftModel.load(
            self._options, model=self._model, home=self._context, window=self._window, threads=self._threads
        )
        self._model.notes.append(f"draft model {self._draft.name}")
        return self._draft

    def _describe(self, weights: Weights) -> Ready:
        import llama_cpp as lib

        from xin.backends.llama_cpp.ranker import ranks

        abilities = ["generate", "embed"]
        if ranks(self._model):
            abilities = ["rerank"]
        elif self._prompt.can_chat:
            abilities.insert(0, "chat")
            abilities += ["vision"] if self._projector is not None else []
        kv_bytes = self._context.cells * self._cell_bytes
        beside = {"draft_model": self._draft, "mmproj": self._projector}
        more = {name: part.size_bytes for name, part in beside.items() if part is not None}
        return Ready(
            context_length=self._window,
            n_parallel=self._options.n_parallel,
            vocabulary_size=self._model.vocabulary.size,
            embedding_size=int(lib.llama_model_n_embd_out(self._model.pointer)),
            abilities=abilities,
            description=self._model.description,
            engine_version=metadata.version("llama-cpp-python"),
            memory_bytes={"weights": self._model.size_bytes, "kv_cache": kv_bytes, **more},
            threads=self._threads,
            notes=self._model.notes,
        )
