"""What is measured, each in processes of its own: xin, llama.cpp's server, llama_cpp.server, the raw loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import socket
import sys
import tempfile
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).parent
START_SECONDS = 60.0
STOP_SECONDS = 15.0
RUNTIME_VARIABLES = ("OMP_", "GOMP_", "KMP_")


@dataclass(frozen=True, slots=True)
class Shape:
    """The same for every peer: `context` tokens for each of `parallel` streams."""

    model: Path
    parallel: int = 1
    context: int = 1024
    batch: int = 2048
    ubatch: int = 512
    threads: int = 2
    flash_attention: bool = True

    @property
    def cells(self) -> int:
        return self.context * self.parallel


class PeerFailed(Exception):
    """A peer did not start or ended early; the message holds its last words."""


class Process:
    """A child with a clean environment: no OMP, GOMP or XIN variable of ours reaches it."""

    def __init__(self, name: str, command: Sequence[str], workdir: Path, env: dict[str, str] | None = None) -> None:
        self.name = name
        self.command = list(command)
        self._log = workdir / f"{name.replace(' ', '-')}-{id(self):x}.log"
        self._env = clean_environment() | (env or {})
        self._child: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    async def start(self) -> None:
        with self._log.open("wb") as log:
            self._child = await asyncio.create_subprocess_exec(
                *self.command, stdin=-1, stdout=-1, stderr=log, env=self._env, limit=2**22
            )

    async def read_line(self, timeout: float) -> str:
        assert self._child is not None and self._child.stdout is not None
        try:
            line = await asyncio.wait_for(self._child.stdout.readline(), timeout)
        except TimeoutError as exc:
            raise PeerFailed(f"{self.name} said nothing for {timeout:.0f} s: {self._last_words()}") from exc
        if not line:
            raise PeerFailed(f"{self.name} ended: {self._last_words()}")
        return line.decode(errors="replace").strip()

    async def line_with(self, word: str) -> str:
        while word not in (line := await self.read_line(START_SECONDS)):
            pass
        return line

    async def call(self, request: dict[str, Any], timeout: float = 600) -> dict[str, Any]:
        assert self._child is not None and self._child.stdin is not None
        self._child.stdin.write(json.dumps(request).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await self.read_line(timeout))
        return answer

    async def stop(self) -> None:
        if self._child is None or self._child.returncode is not None:
            return
        assert self._child.stdin is not None
        self._child.stdin.close()
        for end in (self._child.terminate, self._child.kill):
            with contextlib.suppress(ProcessLookupError):
                end()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._child.wait(), STOP_SECONDS)
                return

    def _last_words(self) -> str:
        return " / ".join(self._log.read_text(errors="replace").strip().splitlines()[-3:]) or "no words"


class Peer(ABC):
    """Started by `async with peer.running(shape)`; `body` holds its words for: no end-of-text stop, cache on."""

    name: str
    exact = True
    body: dict[str, Any] = {}
    url = ""

    def __init__(self, workdir: Path, python: str = sys.executable) -> None:
        self.workdir = workdir
        self.python = python
        self.process: Process

    @abstractmethod
    async def start(self, shape: Shape) -> None: ...

    async def stop(self) -> None:
        await self.process.stop()

    def pids(self) -> list[int]:
        return [self.process.pid]

    def describe(self) -> dict[str, Any]:
        """Command line and the OMP/GOMP variables of each of its processes, as the kernel knows them."""
        return {
            "command": shlex.join(self.process.command),
            "processes": {str(pid): runtime_variables(pid) for pid in self.pids()},
        }

    @contextlib.asynccontextmanager
    async def running(self, shape: Shape) -> AsyncIterator[Peer]:
        try:
            await self.start(shape)
            yield self
        finally:
            await self.stop()


class RawLoop(Peer):
    """The limit; not over HTTP: `generate` and `follow_up` of raw_loop.py."""

    name = "raw loop"
    system = ""

    async def start(self, shape: Shape) -> None:
        self.process = Process(self.name, [self.python, str(HERE / "raw_loop.py"), *_flags(shape)], self.workdir)
        await self.process.start()
        self.system = json.loads(await self.process.read_line(START_SECONDS))["system"]

    async def generate(self, prompts: list[str], tokens: int) -> dict[str, Any]:
        return await self.process.call({"call": "generate", "prompts": prompts, "tokens": tokens})

    async def follow_up(self, history: str, suffix: str, steps: int) -> dict[str, Any]:
        return await self.process.call({"call": "follow_up", "history": history, "suffix": suffix, "steps": steps})


class LlamaServer(Peer):
    """llama.cpp's own server, as the xllamacpp wheel ships it."""

    name = "llama.cpp server"
    body = {"model": "default", "ignore_eos": True, "cache_prompt": True}

    async def start(self, shape: Shape) -> None:
        command = [self.python, str(HERE / "llama_server.py"), *_flags(shape)]
        self.process = Process(self.name, command, self.workdir)
        await self.process.start()
        line = await self.process.line_with("listening http")
        self.url = line.split()[1].rstrip("/") + "/v1/completions"


class LlamaCppPython(Peer):
    """`python -m llama_cpp.server`. It has no ignore_eos and no usage in a stream: its tokens are counted as events."""

    name = "llama_cpp.server"
    exact = False
    body = {"stream_options": None}

    async def start(self, shape: Shape) -> None:
        port = _free_port()
        options = {
            "model": shape.model,
            "port": port,
            "host": "127.0.0.1",
            "n_ctx": shape.context,
            "n_batch": shape.batch,
            "n_ubatch": shape.ubatch,
            "n_threads": shape.threads,
            "n_threads_batch": shape.threads,
            "n_gpu_layers": 0,
            "flash_attn": shape.flash_attention,
            "logits_all": False,
            "interrupt_requests": False,
            "verbose": False,
        }
        flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self.process = Process(self.name, [self.python, "-m", "llama_cpp.server", *flags], self.workdir)
        await self.process.start()
        base = f"http://127.0.0.1:{port}"
        await _wait_for(base + "/v1/models")
        self.url = base + "/v1/completions"


class Xin(Peer):
    """A node of its own (fresh XIN_HOME) with one launch of the model; `launch` adds more models to it."""

    name = "xin"
    body = {"model": "bench", "ignore_eos": True}

    async def start(self, shape: Shape) -> None:
        home = tempfile.mkdtemp(prefix="xin-", dir=self.workdir)
        command = [self.python, "-m", "xin", "node", "--port", "0", "--private"]
        self.process = Process(self.name, command, self.workdir, {"XIN_HOME": home})
        await self.process.start()
        self.base = (await self.process.line_with(" ready on http")).split()[-1].rstrip("/")
        self.url = self.base + "/v1/completions"
        self.launches: list[dict[str, Any]] = []
        await self.launch("bench", shape)

    async def launch(self, uid: str, shape: Shape) -> None:
        request = {
            "model_name": str(shape.model),
            "model_uid": uid,
            "model_engine": "llama.cpp",
            "context_length": shape.context,
            "n_parallel": shape.parallel,
            "n_batch": shape.batch,
            "n_ubatch": shape.ubatch,
            "n_gpu_layers": 0,
            "threads": shape.threads,
            "flash_attn": "on" if shape.flash_attention else "off",
            "kv_cells": shape.cells,
            "prompt_lookup": False,  # every token costs a step here, as the peers' do; benchmarks/lookup.py measures it
        }
        self.launches.append(request)
        await asyncio.to_thread(_post, self.base + "/v1/models", request)

    def pids(self) -> list[int]:
        listed = _get(self.base + "/api/instances")
        return [self.process.pid, *(one["worker"]["pid"] for one in listed if one["worker"]["pid"])]

    def describe(self) -> dict[str, Any]:
        return Peer.describe(self) | {"launches": self.launches}


def clean_environment() -> dict[str, str]:
    mine = (*RUNTIME_VARIABLES, "XIN_", "LLAMA_", "GGML_", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(mine)}


def runtime_variables(pid: int) -> dict[str, str]:
    """OMP, GOMP and KMP variables in a process's environment as it was started."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    pairs = (entry.partition("=") for entry in raw.split("\0") if entry)
    return {name: value for name, _, value in pairs if name.startswith(RUNTIME_VARIABLES)}


def _flags(shape: Shape) -> list[str]:
    numbers = {
        "context": shape.cells,
        "batch": shape.batch,
        "ubatch": shape.ubatch,
        "parallel": shape.parallel,
        "threads": shape.threads,
        "flash-attention": int(shape.flash_attention),
    }
    return ["--model", str(shape.model), *(word for name, n in numbers.items() for word in (f"--{name}", str(n)))]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _wait_for(url: str) -> None:
    for _ in range(int(START_SECONDS / 0.1)):
        with contextlib.suppress(OSError):
            await asyncio.to_thread(_get, url)
            return
        await asyncio.sleep(0.1)
    raise PeerFailed(f"{url} did not answer within {START_SECONDS:.0f} s")


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return _json(answer)


def _post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return _json(answer)
    except urllib.error.HTTPError as exc:
        raise PeerFailed(f"POST {url}: {exc.code} {exc.read().decode(errors='replace')[:500]}") from exc


def _json(answer: IO[bytes]) -> Any:
    return json.loads(answer.read())
