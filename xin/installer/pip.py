"""pip as a child of this interpreter: output to a log, steps to a callback, failures as one cause."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

from xin import paths
from xin.errors import EngineMissing

Report = Callable[[str], None]

_TAIL_LINES = 12
_BUILD_STEP = re.compile(r"\[\s*(\d+)/(\d+)\]|\[\s*(\d+)%\]")
_PIP_STEP = re.compile(
    r"^(Collecting|Downloading|Building wheel for|Installing|Preparing metadata|Successfully) ?[^(\n]*"
)
_APT = "Debian, Ubuntu: sudo apt install"
_CAUSES = (
    ("No space left on device", "the disk is full", "free some space; TMPDIR chooses where the build happens"),
    (
        "externally-managed-environment",
        "this Python belongs to the system and takes no packages",
        "install xin with pipx, or in a virtual environment",
    ),
    (
        r"Killed signal terminated program|Killed\s+\S*cc1plus",
        "the compiler was killed, most likely for want of memory",
        "CMAKE_BUILD_PARALLEL_LEVEL=1 needs less",
    ),
    (
        "CMAKE_(C|CXX)_COMPILER|No CMAKE_",
        "CMake found no working compiler",
        f"{_APT} build-essential · macOS: xcode-select --install",
    ),
    (
        "(?i)could not find (nvcc|CUDA)|CUDA Toolkit not found",
        "CMake found no CUDA toolkit",
        "put nvcc on PATH, or set CUDACXX",
    ),
    ("(?i)could not find (hip|ROCm)", "CMake found no ROCm", "put /opt/rocm/bin on PATH, or set ROCM_PATH"),
    ("Could NOT find Vulkan", "CMake found no Vulkan headers", f"{_APT} libvulkan-dev glslc"),
    ("(?i)cmake.*(not found|No such file)", "cmake is missing", f"{_APT} cmake · macOS: brew install cmake"),
    (
        "No matching distribution found|Failed to establish a new connection|name resolution|Max retries",
        "no package index has it, or none can be reached",
        "check the network, or PIP_INDEX_URL",
    ),
)


class PipFailed(EngineMissing):
    """pip ended with an error; `message` holds the cause and the last lines, `hint` the log."""


class Pip:
    """Runs of `python -m pip` for one installation; all output is appended to one log and given to `on_line`."""

    def __init__(self, name: str, report: Report, on_line: Report | None = None) -> None:
        self.log = paths.private(paths.log_dir()) / f"engines-install-{name}.log"
        self.log.write_text("", encoding="utf-8")
        self._report = report
        self._on_line = on_line

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Raise PipFailed when pip does, EngineMissing when there is no pip."""
        if find_spec("pip") is None:
            raise EngineMissing(f"{sys.executable} has no pip", f"{sys.executable} -m ensurepip")
        tail: deque[str] = deque(maxlen=400)
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command)}\n")
            code = self._follow(command, {**os.environ, **(environment or {})}, log.write, tail)
        if code:
            raise _failure(tail, self.log)

    def _follow(
        self, command: list[str], environment: dict[str, str], write: Callable[[str], object], tail: deque[str]
    ) -> int:
        with subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as child:
            assert child.stdout is not None
            try:
                for line in child.stdout:
                    write(line)
                    tail.append(line.rstrip())
                    if self._on_line is not None:
                        self._on_line(line.rstrip())
                    if step := step_of(line):
                        self._report(step)
            except BaseException:
                child.terminate()
                raise
        return child.returncode


def step_of(line: str) -> str | None:
    """What a line of output says about progress: a build step, or one of pip's own."""
    if found := _BUILD_STEP.search(line):
        done, total, percent = found.groups()
        return f"compiling, {done} of {total}" if total else f"compiling, {percent} %"
    if found := _PIP_STEP.match(line.strip()):
        return found.group(0).strip()
    return None


def cause_of(lines: Iterable[str]) -> tuple[str, str] | None:
    """The cause and hint that pip's output names, if it is one we know."""
    text = "\n".join(lines)
    return next(((cause, hint) for pattern, cause, hint in _CAUSES if re.search(pattern, text)), None)


def _failure(tail: deque[str], log: Path) -> PipFailed:
    known = cause_of(tail)
    last = "\n".join(f"  {line}" for line in [line for line in tail if line.strip()][-_TAIL_LINES:])
    if known:
        return PipFailed(known[0], f"{known[1]} (log: {log})")
    return PipFailed(f"pip failed; its last lines:\n{last}", f"the whole output is in {log}")
