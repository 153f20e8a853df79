"""Why a worker ended, in words: from its exit code, its last lines, its memory and the kernel's count of OOM kills."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from xin.errors import LoadFailed, OutOfMemory, WorkerDied, XinError

NEARLY_FULL = 0.05
_SMALLER = "choose a smaller quantization or context_length, or terminate another model"
_TELLING = re.compile(r"GGML_ASSERT|ggml_abort|terminate called|what\(\):|error|exception|failed|cannot", re.IGNORECASE)
_SIGNALS = {
    signal.SIGSEGV: "crashed with a segmentation fault",
    signal.SIGBUS: "crashed with a bus error: was its file cut short, or the disk full?",
    signal.SIGABRT: "aborted",
    signal.SIGILL: "met an instruction that this CPU lacks",
    signal.SIGFPE: "crashed with an arithmetic error",
    signal.SIGKILL: "was killed from outside (SIGKILL)",
    signal.SIGTERM: "was ended from outside (SIGTERM)",
    signal.SIGINT: "was interrupted (SIGINT)",
}


@dataclass(slots=True)
class Memory:
    """One look at a worker's memory, and at the machine's."""

    rss_bytes: int
    free_bytes: int
    total_bytes: int


def look_at_memory(pid: int) -> Memory | None:
    """Blocking; None when the process is gone."""
    try:
        rss = psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return None
    machine = psutil.virtual_memory()
    return Memory(rss, machine.available, machine.total)


def oom_kills() -> int | None:
    """How often the kernel has killed a process for memory since it started, control groups included. Blocking."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def cause_of_death(
    name: str, exit_code: int, *, lines: Sequence[str], memory: Memory | None, oom_killed: bool, loading: bool
) -> XinError:
    """The error that the model's waiters and streams get; `lines` are the worker's last ones."""
    doing = "while it loaded" if loading else "while it ran"
    killed = exit_code == -signal.SIGKILL
    if killed and (oom_killed or _was_full(memory)):
        sure = "" if oom_killed else "most likely "
        message = f"the worker of {name} was killed {doing}, {sure}because memory ran out{_held(memory)}"
        return OutOfMemory(message, _SMALLER) if loading else WorkerDied(message, _SMALLER)
    words = _words(exit_code)
    last = _telling_line(lines) if not killed else None
    message = f"the worker of {name} {words} {doing}" + (f": {last}" if last else "")
    return (LoadFailed if loading else WorkerDied)(message, _hint(name, exit_code))


def _words(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with exit code {exit_code}" if exit_code else "ended by itself"
    try:
        number = signal.Signals(-exit_code)
    except ValueError:
        return f"was ended by signal {-exit_code}"
    return _SIGNALS.get(number, f"was ended by {number.name}")


def _hint(name: str, exit_code: int) -> str:
    if exit_code == -signal.SIGILL:
        return "build the engine on this machine: xin engines install llama.cpp --build"
    return f"its last lines: xin logs {name}"


def _telling_line(lines: Sequence[str]) -> str | None:
    """The last line that sounds like a cause; the last one of a Python traceback is it."""
    for line in reversed(lines):
        if _TELLING.search(line):
            return line.strip()[:300]
    return None


def _was_full(memory: Memory | None) -> bool:
    return memory is not None and memory.free_bytes < NEARLY_FULL * memory.total_bytes


def _held(memory: Memory | None) -> str:
    if memory is None:
        return ""
    return f" (it last held {_gib(memory.rss_bytes)}, {_gib(memory.free_bytes)} were free)"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
