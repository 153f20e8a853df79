"""CPU threads of PyTorch: one number for the whole process."""

from __future__ import annotations

import os


class Threads:
    """`count`: those in use. `most`: the launch option; without it the node's budget, else the cores."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self.count = 0
        self.set(int(os.environ.get("XIN_THREADS", "0")) or os.cpu_count() or 1)

    def set(self, n: int) -> None:
        import torch

        if self._most is not None:
            n = min(n, self._most)
        if n != self.count:
            self.count = n
            torch.set_num_threads(n)
