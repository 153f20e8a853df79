"""The worker's two ends of the pipe: frames go out on the real stdout, which C libraries no longer reach."""

from __future__ import annotations

import os
import sys
import threading
from typing import BinaryIO

from xin.worker.frames import Down, Frame, encode, read_down


class Channel:
    """Blocking reads on one thread; writes from any thread, each one whole."""

    def __init__(self, source: BinaryIO, sink: int) -> None:
        self._source = source
        self._sink = sink
        self._lock = threading.Lock()

    @classmethod
    def standard(cls) -> Channel:
        """Take stdin and stdout for frames; from then on fd 1 is stderr."""
        sink = os.dup(1)
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        return cls(os.fdopen(0, "rb", buffering=1 << 16, closefd=False), sink)

    def read(self) -> Down | None:
        return read_down(self._source)

    def send(self, *frames: Frame) -> None:
        """Write the frames in one go; a node that is gone ends this process."""
        data = memoryview(b"".join(map(encode, frames)))
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._sink, data) :]
            except BrokenPipeError:
                os._exit(0)
