"""A child process that does a job: one JSON object a line on stdout, free text on stderr.

The child is this module too (`python -m xin.node.job_child MODULE ARGUMENT…`): it runs MODULE, and ends with all that
it started when the node is gone.
"""

from __future__ import annotations

import asyncio
import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec

from xin.errors import InternalError, OutOfMemory, XinError, from_code

LIMIT = 1 << 20


class Word(msgspec.Struct, kw_only=True):
    """A line of a child. Each field that is there says something; `error` or `done` is the last one.

    total_bytes: what will be written.
    """

    stage: str | None = None
    progress: float | None = None
    detail: str | None = None
    total_bytes: int | None = None
    log: str | None = None
    level: str = "info"
    done: str | None = None
    error: str | None = None
    code: str | None = None
    hint: str | None = None


async def run_child(
    module: str, arguments: list[str], hear: Callable[[Word], None], environment: Mapping[str, str] | None = None
) -> str:
    """`python -m module`; the text of its `done`. Raises what it tells as its error, and kills it when cancelled."""
    command = [sys.executable, "-P", "-m", "xin.node.job_child", module, *arguments]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,  # never written to: its end is the node's end
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
        limit=LIMIT,
    )
    assert process.stdout is not None and process.stderr is not None
    last: list[Word] = []
    stderr = asyncio.create_task(_read_text(process.stderr, hear))
    try:
        await _read_words(process.stdout, hear, last)
        await stderr
        code = await process.wait()
    except BaseException:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        stderr.cancel()
        await process.wait()
        raise
    return _result(module, code, last)


async def _read_words(stream: asyncio.StreamReader, hear: Callable[[Word], None], last: list[Word]) -> None:
    while line := await stream.readline():
        try:
            word = msgspec.json.decode(line, type=Word)
        except msgspec.MsgspecError:
            word = Word(log=line.decode(errors="replace").rstrip())
        if word.done is not None or word.error is not None:
            last.append(word)
        hear(word)


async def _read_text(stream: asyncio.StreamReader, hear: Callable[[Word], None]) -> None:
    while line := await stream.readline():
        hear(Word(log=line.decode(errors="replace").rstrip()))


def _result(module: str, code: int, last: list[Word]) -> str:
    for word in last:
        if word.error is not None:
            raise from_code(word.code, word.error, hint=word.hint)
        if word.done is not None and code == 0:
            return word.done
    raise _unexplained(module, code)


def _unexplained(module: str, code: int) -> XinError:
    name = module.rpartition(".")[2]
    if code == -signal.SIGKILL:
        return OutOfMemory(f"{name} was killed from outside, most likely for want of memory", "see the job's log")
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return InternalError(f"{name} {how}", "see the job's log")


def _die_with_parent() -> None:
    """Wait for the end of stdin, then end the whole session."""
    while os.read(0, 1):  # not sys.stdin, whose lock would be held when the interpreter ends
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_die_with_parent, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
