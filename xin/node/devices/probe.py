"""All devices of this host, from every source that answers."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Protocol

from xin.node.devices.amd import Amd
from xin.node.devices.apple import Apple
from xin.node.devices.host import Host
from xin.node.devices.nvidia import Nvidia
from xin.protocol.node import Device

log = logging.getLogger(__name__)


class Source(Protocol):
    """One vendor's driver. `problem` says, after a read, what keeps devices from being listed."""

    problem: str | None

    def read(self) -> list[Device]: ...

    def close(self) -> None: ...


class Prober:
    """Reads every source, accelerators first and the host last; keeps drivers open between reads, until `close`.

    Never raises: a source that fails is logged once per cause and noted on the host's device.
    """

    def __init__(self, sources: Sequence[Source] | None = None) -> None:
        self._sources = list(sources) if sources is not None else _default_sources()
        self._logged: set[str] = set()

    def read(self) -> list[Device]:
        devices: list[Device] = []
        problems: list[str] = []
        for source in self._sources:
            try:
                devices += source.read()
                problem = source.problem
            except Exception as exc:  # the border to vendors' drivers: none of them may take the node down
                problem = f"{type(source).__name__}: {exc!r}"
            if problem:
                problems.append(problem)
        self._tell(devices, problems)
        return devices

    def close(self) -> None:
        for source in self._sources:
            source.close()

    def _tell(self, devices: list[Device], problems: list[str]) -> None:
        for problem in problems:
            if problem not in self._logged:
                self._logged.add(problem)
                log.warning("devices: %s", problem)
        if problems and devices and devices[-1].kind == "cpu":
            devices[-1].note = "; ".join(problems)


def probe() -> list[Device]:
    """One reading. Blocks while drivers open; never raises."""
    prober = Prober()
    try:
        return prober.read()
    finally:
        prober.close()


def _default_sources() -> list[Source]:
    if sys.platform == "darwin":
        return [Apple(), Host()]
    return [Nvidia(), Amd(), Host()]
