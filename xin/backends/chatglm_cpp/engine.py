"""The chatglm.cpp engine: ChatGLM 1 to 4 from chatglm.cpp's own files, one request after another."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xin.backends.base import Output, Progress, Request, SequentialEngine, Weights
from xin.backends.chatglm_cpp.options import Options as ChatGlmOptions
from xin.errors import BadRequest, InternalError, LoadFailed
from xin.worker.frames import Ready

if TYPE_CHECKING:
    from xin.backends.chatglm_cpp.model_file import ModelFile
    from xin.backends.chatglm_cpp.pieces import Pieces

_LONGEST_DEFAULT = 8192
_PLACE = re.compile(r"^\S+:\d+ (check failed \(.*?\) (?=\S))?")


class ChatGlmEngine(SequentialEngine):
    name = "chatglm.cpp"
    formats = frozenset({"ggml"})
    requires = ("chatglm_cpp",)
    sampling_defaults = {"temperature": 0.95, "top_p": 0.7, "top_k": 0, "min_p": 0.0}  # as ChatGLM's makers have them
    Options = ChatGlmOptions

    def __init__(self, file: ModelFile, pieces: Pieces, pipeline: Any, window: int) -> None:
        from xin.backends.chatglm_cpp.reader import Reader
        from xin.backends.chatglm_cpp.vocabulary import Vocabulary

        super().__init__()
        self._file, self._pieces, self._window = file, pieces, window
        self._vocabulary = Vocabulary(pipeline.tokenizer, file.config.family, pieces)
        self._reader: Reader | None = Reader(pipeline.model, file.config.family)
        config = pipeline.model.config
        self._ends = frozenset({config.eos_token_id, *config.extra_eos_token_ids})

    @classmethod
    def load(cls, weights: Weights, options: ChatGlmOptions, progress: Progress) -> ChatGlmEngine:
        from xin.backends.chatglm_cpp.model_file import read
        from xin.backends.chatglm_cpp.pieces import Pieces

        if len(weights.paths) != 1:
            raise LoadFailed(f"chatglm.cpp loads one file, not {len(weights.paths)}", "give the .bin file")
        path = Path(weights.paths[0])
        progress(0.0, "checking the file")
        file = read(path)
        pieces = Pieces(file, path.name)
        window = _window(file.config.max_length, options.context_length)
        progress(0.5, "loading")
        return cls(file, pieces, _open(path, window), window)

    def describe(self) -> Ready:
        config = self._file.config
        return Ready(
            context_length=self._window,
            vocabulary_size=config.vocabulary,
            abilities=["chat", "generate"],
            description=f"{config.family_name}, {config.type_name}",
            engine_version=metadata.version("chatglm-cpp"),
            memory_bytes={"weights": self._file.size_bytes, "kv": config.kv_bytes(self._window)},
            threads=_threads(),
        )

    def submit(self, request: Request) -> None:
        from xin.backends.chatglm_cpp.sampling import check

        check(request, self._window)
        super().submit(request)

    def generate(self, request: Request) -> Iterator[Output | None]:
        from xin.backends.chatglm_cpp.sampling import generation_config

        assert self._reader is not None
        config, ends = generation_config(request.sampling), self._ends | request.stop_token_ids
        tokens = list(request.tokens)
        begins, behind_role = True, tokens[-1] == self._pieces.assistant
        try:
            for _ in self._reader.read(tokens, config):
                yield None
            while (token := self._reader.next(tokens, config)) not in ends:
                tokens.append(token)
                piece = self._pieces.piece(token)
                if begins and piece:
                    piece = piece.lstrip() if behind_role else self._pieces.first(piece)
                    begins = behind_role and not piece
                yield Output(0, 0, piece=piece, tokens=1, cached_tokens=self._reader.kept)
        except RuntimeError as exc:  # the library's only kind: not a number, or no memory for the graph
            self._reader.forget()
            yield Output(
                0, 0, error=InternalError(f"chatglm.cpp could not go on: {_words(exc)}", "see the instance's log")
            )

    def tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        return self._vocabulary.tokenize(text, add_special)

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        return self._vocabulary.detokenize(tokens)

    def render(self, messages: list[dict[str, Any]], template_kwargs: dict[str, Any]) -> list[int]:
        return self._vocabulary.render(messages, template_kwargs)

    def close(self) -> None:
        self._end()
        self._reader = None


def _open(path: Path, window: int) -> Any:
    from chatglm_cpp import Pipeline

    try:
        return Pipeline(str(path), max_length=window)
    except (RuntimeError, IndexError) as exc:
        raise LoadFailed(
            f"chatglm.cpp could not load {path.name}: {_words(exc)}", "download or convert it again"
        ) from exc


def _words(exc: Exception) -> str:
    """Without the place in the library's source that its messages begin with."""
    return _PLACE.sub("", str(exc))


def _window(trained: int, asked: int | None) -> int:
    if asked is not None and asked > trained:
        message = f"this model was trained with {trained} tokens, and its file allows no more"
        raise BadRequest(message, f"at most {trained}", param="context_length")
    return asked or min(trained, _LONGEST_DEFAULT)


def _threads() -> int:
    """As the library decides by itself; it cannot be told."""
    cores = os.cpu_count() or 4
    return cores if cores <= 4 else min(cores // 2, 16)
