"""Memory bandwidth, measured: `python -m xin.node.bandwidth 2` copies arrays that no cache holds with two threads, and
prints bytes/s; `python -m xin.node.bandwidth cuda:0` copies within a GPU's memory, by torch.

Generating a token reads all of a model's weights once, so this is what bounds its speed. Counted as STREAM counts a
copy: bytes read plus bytes written, by all threads, the best of several passes.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from pathlib import Path

import msgspec

from xin.protocol.node import Device

ARRAY_BYTES = 64 << 20
PASSES = 4
LONGEST_SECONDS = 60.0
MOST_THREADS = 8
GPU_ARRAY_BYTES = 256 << 20
BUSY = 0.3  # load average by core: what is measured then tells of the others too
GPU_BUSY = 10.0  # percent


class Measured(msgspec.Struct):
    """What was measured of one device: it is measured again when another has its place, or it has other cores."""

    name: str
    cores: float
    bytes_per_second: float


class BandwidthProbe:
    """Measures in a child, and keeps in `path` what was measured while the machine was not busy."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = asyncio.Lock()
        self._meanwhile: dict[str, float | None] = {}  # until the device is quiet

    async def of_ram(self, cpu: str, cores: float) -> float | None:
        """Bytes a second; None when it cannot be measured."""
        threads = max(1, min(int(cores), MOST_THREADS))
        return await self._of("ram", cpu, cores, str(threads), busy=os.getloadavg()[0] > BUSY * cores)

    async def of_gpu(self, device: Device) -> float | None:
        """Bytes a second within its memory; None when it cannot be measured: without torch, or with torch for CPUs."""
        torch_name = "mps" if device.kind == "metal" else f"cuda:{device.id.rpartition(':')[2]}"
        return await self._of(device.id, device.name, 0, torch_name, busy=(device.utilization or 0) > GPU_BUSY)

    async def _of(self, id: str, name: str, cores: float, what: str, *, busy: bool) -> float | None:
        """`what`: as the child takes it. What is measured of a busy device is not kept on disk."""
        async with self._turn:
            book = await asyncio.to_thread(self._book)
            known = book.get(id)
            if known is not None and (known.name, known.cores) == (name, cores):
                return known.bytes_per_second
            if busy and id in self._meanwhile:
                return self._meanwhile[id]
            found = await _measured(what)
            if found is not None and not busy:
                await asyncio.to_thread(self._keep, {**book, id: Measured(name, cores, found)})
            self._meanwhile[id] = found
            return found

    def _book(self) -> dict[str, Measured]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, Measured])
        except (OSError, msgspec.DecodeError):
            return {}

    def _keep(self, book: dict[str, Measured]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        part.write_bytes(msgspec.json.encode(book))
        part.replace(self._path)


async def _measured(what: str) -> float | None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "xin.node.bandwidth", what),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), LONGEST_SECONDS)
        return float(said) if process.returncode == 0 else None
    except (TimeoutError, ValueError):
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def copied_per_second(threads: int, array_bytes: int = ARRAY_BYTES) -> float:
    """Bytes read and written a second by so many threads; each needs twice `array_bytes`."""
    import numpy as np

    pairs = [(np.ones(array_bytes // 8), np.zeros(array_bytes // 8)) for _ in range(threads)]
    best = 0.0
    for _ in range(PASSES):
        workers = [threading.Thread(target=np.copyto, args=(target, source)) for source, target in pairs]
        started = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = max(best, 2 * threads * array_bytes / (time.perf_counter() - started))
    return best


def copied_by_torch(device: str, array_bytes: int = GPU_ARRAY_BYTES) -> float:
    """The same within the memory of a device as torch names it. Raises where torch has no such device."""
    import torch

    def done() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        elif device == "mps":
            torch.mps.synchronize()

    source = torch.ones(array_bytes // 4, dtype=torch.float32, device=device)
    target = torch.zeros_like(source)
    best = 0.0
    for _ in range(PASSES):
        done()
        started = time.perf_counter()
        target.copy_(source)
        done()
        best = max(best, 2 * array_bytes / (time.perf_counter() - started))
    return best


if __name__ == "__main__":
    print(copied_per_second(int(sys.argv[1])) if sys.argv[1].isdigit() else copied_by_torch(sys.argv[1]))
