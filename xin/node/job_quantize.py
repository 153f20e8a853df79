"""Making another quantization of a local model, as a job: llama.cpp's own quantizer in a child."""

from __future__ import annotations

import asyncio
import re
import shlex
from pathlib import Path
from typing import Any

import msgspec

from xin import paths
from xin.backends import require
from xin.backends.llama_cpp.quantize import PART, TARGETS
from xin.catalog.spec import ModelSpec
from xin.errors import BadRequest, Conflict, XinError
from xin.node import gguf_file
from xin.node.job_child import Word, run_child
from xin.node.job_record import JobRecord
from xin.node.local_models import GGUF_ENGINE, made_models, made_models_dir
from xin.node.resolve import on_disk, resolve
from xin.protocol.node import JobFile


class QuantizeOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`source`: the name or path of a local GGUF model. `name`: of the file that is made, without .gguf."""

    source: str
    quantization: str
    name: str | None = None


class QuantizeJob:
    """`prepare` it in a thread before it runs: it looks at the disk."""

    kind = "quantize"
    stages = {"check": 0.02, "quantize": 0.95, "store": 0.03}

    def __init__(self, order: QuantizeOrder, *, model_dirs: list[str], threads: int) -> None:
        self._order = order
        self._model_dirs = model_dirs
        self._threads = threads
        self._source = Path()
        self._target = Path()
        self.title = f"{order.source} {order.quantization.upper()}"

    @property
    def command(self) -> str:
        order = self._order
        name = f" --name {shlex.quote(order.name)}" if order.name else ""
        return f"xin quantize {shlex.quote(order.source)} {order.quantization.upper()}{name}"

    @property
    def order(self) -> dict[str, Any]:
        return {"kind": self.kind, **msgspec.to_builtins(self._order)}

    def prepare(self) -> None:
        """Raises BadRequest naming the field, ModelNotFound, EngineMissing, Conflict when it is made already."""
        order = self._order
        quantization = order.quantization.upper()
        if quantization not in TARGETS:
            hint = f"one of: {', '.join(TARGETS)}"
            raise BadRequest(f"{order.quantization[:40]!r} is no quantization", hint, param="quantization")
        spec = self._resolved()
        if spec.format != "gguf":
            message = f"{order.source} is {spec.format}: only gguf models can be quantized"
            raise BadRequest(message, "choose a gguf model", param="source")
        require(GGUF_ENGINE)
        self._source = gguf_file.checked(Path(spec.weights[0]))
        is_named = self._source.suffix.lower() == ".gguf"  # a blob's name tells nothing
        base = gguf_file.base_name(self._source.name) if is_named else re.sub(r"[^A-Za-z0-9._-]+", "-", spec.name)
        stem = order.name or f"{base}.{quantization}"
        if "/" in stem or stem.startswith(".") or len(stem) > 200 or not stem.isprintable():
            raise BadRequest(f"{stem[:80]!r} is not a file name", "use letters, digits, dot and dash", param="name")
        self._target = paths.private(made_models_dir()) / f"{stem}.gguf"
        if self._target.exists():
            raise Conflict(f"{self._target.name} is there already", f"it lies in {self._target.parent}")

    def _resolved(self) -> ModelSpec:
        try:
            return on_disk(resolve(self._order.source, model_dirs=self._model_dirs), f"xin pull {self._order.source}")
        except XinError as exc:
            exc.param = "source"
            raise

    async def run(self, record: JobRecord) -> str:
        job = record.job

        def hear(word: Word) -> None:
            if word.total_bytes:
                job.bytes_total = word.total_bytes
                job.files = [JobFile(name=self._target.name, total_bytes=word.total_bytes, state="running")]
            if word.stage:
                record.stage(word.stage, word.detail or "")
            if word.progress is not None:
                record.progress(word.progress, word.detail or "")
                for file in job.files:
                    file.done_bytes = int(file.total_bytes * word.progress)
            if word.log:
                record.write(word.log, level=word.level, source="llama.cpp")

        record.write(f"from {self._source.name}: its own rounding stays in what is made of it")
        arguments = [str(self._source), str(self._target), self._order.quantization.upper(), str(self._threads)]
        try:
            size = int(await run_child("xin.backends.llama_cpp.quantize", arguments, hear))
        finally:
            await asyncio.to_thread(Path(f"{self._target}{PART}").unlink, missing_ok=True)
        job.bytes_total = job.bytes_done = size
        job.files = [JobFile(name=self._target.name, total_bytes=size, done_bytes=size, state="done")]
        names = {path: name for name, path in await asyncio.to_thread(made_models)}
        return f"xin launch {names.get(self._target, self._target.stem)}"


def remove_partial() -> None:
    """What a killed node left half written. Blocking."""
    for part in made_models_dir().glob(f"*{PART}"):
        part.unlink(missing_ok=True)
