"""AMD GPUs through the amdgpu driver's sysfs files (https://docs.kernel.org/gpu/amdgpu/thermal.html) and KFD's."""

from __future__ import annotations

import re
from pathlib import Path

from xin.protocol.node import Device

_VENDOR = "0x1002"
_CARD = re.compile(r"card\d+")


class Amd:
    """Reads `root`/sys; a file that is missing or unreadable leaves its field None."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.problem: str | None = None
        self._sys = root / "sys"

    def read(self) -> list[Device]:
        cards = sorted(self._cards(), key=lambda card: int(card.name[4:]))
        if not cards:
            return []
        kfd = self._kfd_nodes()
        return [self._device(index, card / "device", kfd) for index, card in enumerate(cards)]

    def close(self) -> None:
        """Holds nothing open."""

    def _cards(self) -> list[Path]:
        """Only amdgpu makes mem_info_vram_total: a card of another driver has none."""
        return [
            card
            for card in (self._sys / "class/drm").glob("card*")
            if _CARD.fullmatch(card.name)
            and _text(card / "device/vendor") == _VENDOR
            and (card / "device/mem_info_vram_total").exists()
        ]

    def _device(self, index: int, card: Path, kfd: dict[int, tuple[str, str | None]]) -> Device:
        total, used = _number(card / "mem_info_vram_total"), _number(card / "mem_info_vram_used")
        gpu_id, architecture = kfd.get(_location(card), (None, None))
        device = Device(
            id=f"rocm:{index}",
            kind="rocm",
            name=_text(card / "product_name") or f"AMD GPU {_text(card / 'device') or index}",
            total_bytes=int(total or 0),
            free_bytes=None if total is None or used is None else int(total - used),
            utilization=_number(card / "gpu_busy_percent"),
            driver=_text(self._sys / "module/amdgpu/version"),
            compute_capability=architecture,
            process_bytes={} if gpu_id is None else self._processes(gpu_id),
            note="the driver does not tell its memory" if total is None else None,
        )
        self._add_sensors(device, card)
        return device

    def _add_sensors(self, device: Device, card: Path) -> None:
        for sensors in sorted(card.glob("hwmon/hwmon*")):
            device.temperature = _number(sensors / "temp1_input", 1000)
            power = _number(sensors / "power1_average", 10**6)
            device.power = _number(sensors / "power1_input", 10**6) if power is None else power
            device.power_limit = _number(sensors / "power1_cap", 10**6)
            return

    def _kfd_nodes(self) -> dict[int, tuple[str, str | None]]:
        """KFD's gpu_id and the architecture (gfx1100) of each node, by PCI location."""
        nodes = {}
        for node in (self._sys / "class/kfd/kfd/topology/nodes").glob("*"):
            gpu_id = _text(node / "gpu_id")
            properties = dict(
                line.split(None, 1) for line in (_text(node / "properties") or "").splitlines() if " " in line
            )
            location = properties.get("location_id", "")
            if gpu_id and gpu_id != "0" and location.isdigit():
                place = (int(properties.get("domain", "0")) << 16) | int(location)
                nodes[place] = (gpu_id, _architecture(properties.get("gfx_target_version", "")))
        return nodes

    def _processes(self, gpu_id: str) -> dict[int, int]:
        files = (self._sys / "class/kfd/kfd/proc").glob(f"*/vram_{gpu_id}")
        return {int(file.parent.name): int(_number(file) or 0) for file in files if file.parent.name.isdigit()}


def _location(card: Path) -> int:
    """The PCI address that `card` links to, as KFD counts it: domain, bus, device and function; -1 if unknown."""
    match = re.fullmatch(r"([0-9a-f]{4,}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", card.resolve().name)
    if not match:
        return -1
    domain, bus, slot, function = (int(part, 16) for part in match.groups())
    return domain << 16 | bus << 8 | slot << 3 | function


def _architecture(version: str) -> str | None:
    """110001 is gfx1101: major in decimal, minor and stepping in hexadecimal digits."""
    if not version.isdigit() or int(version) == 0:
        return None
    major, rest = divmod(int(version), 10000)
    minor, stepping = divmod(rest, 100)
    return f"gfx{major}{minor:x}{stepping:x}"


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _number(file: Path, divisor: int = 1) -> float | None:
    try:
        return int(_text(file) or "") / divisor
    except ValueError:
        return None
