"""Memory bandwidth, measured: `python -m xin.node.bandwidth` copies arrays that no cache holds, and prints bytes/s.

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

ARRAY_BYTES = 64 << 20
PASSES = 4
LONGEST_SECONDS = 60.0
MOST_THREADS = 8
BUSY = 0.3  # load average by core: what is measured then tells of the others too


class Measured(msgspec.Struct):
    """What was measured of one machine: it is measured again on another CPU, or with other cores."""

    cpu: str
    cores: float
    bytes_per_second: float


class BandwidthProbe:
    """Measures in a child, and keeps in `path` what was measured while the machine was not busy."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = asyncio.Lock()
        self._meanwhile: float | None = None  # until the machine is quiet

    async def of_ram(self, cpu: str, cores: float) -> float | None:
        """Bytes a second; None when it cannot be measured."""
        async with self._turn:
            known = await asyncio.to_thread(self._kept)
            if known is not None and (known.cpu, known.cores) == (cpu, cores):
                return known.bytes_per_second
            was_busy = os.getloadavg()[0] > BUSY * cores
            if was_busy and self._meanwhile is not None:
                return self._meanwhile
            found = await _measured(max(1, min(int(cores), MOST_THREADS)))
            if found is not None and not was_busy:
                await asyncio.to_thread(self._keep, Measured(cpu, cores, found))
            self._meanwhile = found
            return found

    def _kept(self) -> Measured | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Measured)
        except (OSError, msgspec.DecodeError):
            return None

    def _keep(self, measured: Measured) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        part.write_bytes(msgspec.json.encode(measured))
        part.replace(self._path)


async def _measured(threads: int) -> float | None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "xin.node.bandwidth", str(threads)),
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


if __name__ == "__main__":
    print(copied_per_second(int(sys.argv[1])))
