"""A real node in a process of its own, as `xin node` starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

XIN = [sys.executable, "-m", "xin"]


@dataclass
class NodeProcess:
    endpoint: str
    process: subprocess.Popen[str]
    environ: dict[str, str] = field(repr=False)

    def xin(
        self, *arguments: str, stdin: str | None = None, timeout: float = 60, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command against this node, away from any terminal."""
        given: dict[str, object] = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            [*XIN, *arguments],
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=timeout,
            **given,
        )


@contextmanager
def started(command: Sequence[str], environ: Mapping[str, str]) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A command that becomes a node: its endpoint once it is ready. SIGTERM ends it."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environ, text=True)
    try:
        assert process.stdout
        ready = process.stdout.readline()
        assert " ready on http" in ready, ready
        yield ready.split()[-1], process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        process.stdout.close()


@contextmanager
def running_node(home: Path, *flags: str) -> Iterator[NodeProcess]:
    environ = {**os.environ, "XIN_HOME": str(home), "COLUMNS": "80"}
    with started([*XIN, "node", "--port", "0", "--private", *flags], environ) as (endpoint, process):
        yield NodeProcess(endpoint, process, {**environ, "XIN_ENDPOINT": endpoint})
