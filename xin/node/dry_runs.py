"""Dry runs of GGUFs in children with limits; answers are kept by file and options. The node never parses a header."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from xin.backends.llama_cpp.dry_run_words import ModelSize, Question
from xin.node import gguf_file
from xin.node.dry_run_book import DryRunBook
from xin.node.gpu_choice import environment

WALL_SECONDS = 90.0  # a busy machine takes seconds for what takes 0.7 s alone
AT_ONCE = 2
KEPT = 500
TIMED_OUT = "timed_out"  # a code of answers: try again
_LIMIT = 16 << 20  # of an answer
_ENVIRONMENT = {"GGML_NO_BACKTRACE": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# What decides about memory; other options do not make another dry run.
_COUNTED = frozenset(
    {"context_length", "n_parallel", "n_batch", "n_ubatch", "n_gpu_layers", "flash_attn", "cache_type_k"}
    | {"cache_type_v", "kv_cells", "swa_full"}
)
Key = tuple[str, int, int, bytes]


class DryRuns:
    """At most AT_ONCE children. What is asked twice at the same time is counted once; `book` stays over restarts."""

    def __init__(self, book: DryRunBook | None = None) -> None:
        self._book = book
        self._known: OrderedDict[Key, ModelSize] = OrderedDict()
        self._running: dict[Key, asyncio.Task[ModelSize]] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)
        self.children = 0

    async def sizes(
        self, path: str, options: Sequence[dict[str, Any]], *, ladder: bool = False, gpu: Sequence[int] | None = None
    ) -> ModelSize:
        """The file with each of `options`; `error` set when llama.cpp does not take it, or the child did not end well.

        `gpu`: the accelerators that the worker will see, by their numbers; None = all.

        Raises OSError when the file is not there.
        """
        counted = [_counted(one) for one in options]
        key = await asyncio.to_thread(_key, path, counted, ladder, gpu)
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        if self._book is not None and (found := await asyncio.to_thread(self._book.find, key)) is not None:
            self._known[key] = found
            return found
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(
                self._count(key, Question(path=path, options=counted, ladder=ladder), gpu)
            )
        return await asyncio.shield(task)

    async def close(self) -> None:
        tasks = [*self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _count(self, key: Key, question: Question, gpu: Sequence[int] | None) -> ModelSize:
        try:
            async with self._turn:
                self.children += 1
                size = (await dry_run([question], gpu=gpu))[0]
            if size.code != TIMED_OUT:
                self._known[key] = size
                if self._book is not None:
                    await asyncio.to_thread(self._book.keep, key, size)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
            return size
        finally:
            self._running.pop(key, None)


async def dry_run(
    questions: Sequence[Question], wall_seconds: float = WALL_SECONDS, *, gpu: Sequence[int] | None = None
) -> list[ModelSize]:
    """One child for all of them. Those from the one on that ended the child have an `error` that says how it ended."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "xin.backends.llama_cpp.dry_run"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, **_ENVIRONMENT, **environment(gpu)},
        start_new_session=True,
        limit=_LIMIT,
    )
    asked = b"".join(msgspec.json.encode(question) + b"\n" for question in questions)
    try:
        said, _ = await asyncio.wait_for(process.communicate(asked), wall_seconds)
        code = process.returncode or 0
    except TimeoutError:
        said, code = b"", None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    answers = [msgspec.json.decode(line, type=ModelSize) for line in said.splitlines() if line.endswith(b"}")]
    return [*answers, *(_died(question, code) for question in questions[len(answers) :])]


def _counted(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key in _COUNTED and value is not None}


def _key(path: str, options: list[dict[str, Any]], ladder: bool, gpu: Sequence[int] | None) -> Key:
    parts = [part.stat() for part in gguf_file.parts(Path(path))]
    changed = max(part.st_mtime_ns for part in parts)
    asked = [options, ladder] if gpu is None else [options, ladder, list(gpu)]
    return path, sum(part.st_size for part in parts), changed, msgspec.json.encode(asked, order="sorted")


def _died(question: Question, code: int | None) -> ModelSize:
    name = Path(question.path).name
    if code is None:
        return ModelSize(
            error=f"reading {name} took too long", hint="try again when the machine is idle", code=TIMED_OUT
        )
    how = f"ended with {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    message = f"{name} is damaged, or not what llama.cpp can read: the process that read it {how}"
    return ModelSize(error=message, hint="download it again", code="load_failed")
