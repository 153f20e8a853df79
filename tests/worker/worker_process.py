"""A real worker on a pipe, for tests: send frames, collect what comes back."""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import Any

from xin.worker.frames import (
    Accepted,
    Delta,
    Deltas,
    Done,
    Failed,
    Frame,
    Generate,
    Load,
    Ready,
    Up,
    decode_up,
    encode,
    frame_length,
)


class WorkerProcess:
    def __init__(
        self, engine: str, weights: list[str] | None = None, *, chat_sibling: str | None = None, **options: Any
    ) -> None:
        self.engine = engine
        self.process = subprocess.Popen(
            [sys.executable, "-m", "xin.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.send(Load(engine, weights or [], options, "test", chat_sibling=chat_sibling))

    def send(self, *frames: Frame) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(map(encode, frames)))
        self.process.stdin.flush()

    def read(self) -> Up | None:
        assert self.process.stdout is not None
        head = self.process.stdout.read(4)
        return decode_up(self.process.stdout.read(frame_length(head))) if len(head) == 4 else None

    def until(self, *kinds: type) -> Any:
        while True:
            frame = self.read()
            assert frame is not None, "the worker ended"
            if isinstance(frame, kinds):
                return frame

    def ready(self) -> Ready:
        frame: Ready | Failed = self.until(Ready, Failed)
        assert isinstance(frame, Ready), frame
        return frame

    def collect(self, *requests: Generate) -> dict[tuple[int, int], tuple[list[Delta], Done]]:
        """Run the requests to their ends: (request, choice) -> (deltas, done)."""
        self.send(*requests)
        deltas: dict[tuple[int, int], list[Delta]] = {}
        done: dict[tuple[int, int], Done] = {}
        while len(done) < sum(request.n for request in requests):
            frame = self.until(Deltas, Done, Failed, Accepted)
            assert not isinstance(frame, Failed), frame
            if isinstance(frame, Deltas):
                for item in frame.items:
                    deltas.setdefault((item.request_id, item.index), []).append(item)
            elif isinstance(frame, Done):
                done[(frame.request_id, frame.index)] = frame
        return {key: (deltas.get(key, []), end) for key, end in done.items()}

    def text(self, request: Generate) -> str:
        return "".join(delta.text for delta in self.collect(request)[(request.request_id, 0)][0])

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
