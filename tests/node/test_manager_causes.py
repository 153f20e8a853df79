"""The words for a worker's end."""

from __future__ import annotations

import os
import signal

import pytest

from xin.errors import LoadFailed, OutOfMemory, WorkerDied
from xin.node.death import Memory, cause_of_death, look_at_memory

GIB = 2**30


def cause(exit_code, *, lines=(), memory=None, oom_killed=False, loading=False):
    return cause_of_death("m", exit_code, lines=lines, memory=memory, oom_killed=oom_killed, loading=loading)


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [
        (-signal.SIGSEGV, "the worker of m crashed with a segmentation fault while it ran"),
        (-signal.SIGKILL, "the worker of m was killed from outside (SIGKILL) while it ran"),
        (-signal.SIGTERM, "the worker of m was ended from outside (SIGTERM) while it ran"),
        (-signal.SIGUSR1, "the worker of m was ended by SIGUSR1 while it ran"),
        (-63, "the worker of m was ended by signal 63 while it ran"),
        (3, "the worker of m ended with exit code 3 while it ran"),
        (0, "the worker of m ended by itself while it ran"),
    ],
)
def test_signals_and_codes(exit_code, words):
    error = cause(exit_code)
    assert type(error) is WorkerDied and error.message == words and error.hint


def test_the_telling_line_is_quoted():
    lines = ["llama_context: n_ctx = 512", "ggml.c:123: GGML_ASSERT(n > 0) failed", "[New LWP 12]"]
    error = cause(-signal.SIGABRT, lines=lines, loading=True)
    assert type(error) is LoadFailed
    assert error.message == "the worker of m aborted while it loaded: ggml.c:123: GGML_ASSERT(n > 0) failed"


def test_the_kernel_s_oom_killer_is_named():
    memory = Memory(int(3.25 * GIB), GIB // 4, 16 * GIB)
    error = cause(-signal.SIGKILL, memory=memory, oom_killed=True, loading=True)
    assert type(error) is OutOfMemory
    assert error.message.endswith("because memory ran out (it last held 3.2 GiB, 0.2 GiB were free)")
    likely = cause(-signal.SIGKILL, memory=memory)
    assert type(likely) is WorkerDied and "most likely because memory ran out" in likely.message
    roomy = cause(-signal.SIGKILL, memory=Memory(GIB, 8 * GIB, 16 * GIB))
    assert "from outside" in roomy.message


def test_look_at_memory():
    memory = look_at_memory(os.getpid())
    assert memory is not None and 0 < memory.rss_bytes < memory.total_bytes
    assert look_at_memory(2**30) is None
