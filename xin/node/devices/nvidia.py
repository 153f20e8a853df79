"""NVIDIA GPUs and their MIG instances through NVML (https://docs.nvidia.com/deploy/nvml-api/)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from xin.protocol.node import Device


class Nvidia:
    """NVML, opened by the first read and held open until `close`, since opening it can take a second.

    A question that the driver does not answer leaves its field None; an answer that is an error stands in the
    device's note. `problem` says why there is a driver but no device.
    """

    def __init__(self) -> None:
        self.problem: str | None = None
        self._nvml: Any = None

    def read(self) -> list[Device]:
        import pynvml

        self.problem = None
        try:
            if self._nvml is None:
                pynvml.nvmlInit()
                self._nvml = pynvml
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as exc:
            self.close()
            if not isinstance(exc, pynvml.NVMLError_LibraryNotFound):
                self.problem = f"NVIDIA driver: {exc}"
            return []
        driver = _Questions(pynvml).ask("driver", pynvml.nvmlSystemGetDriverVersion)
        return [device for index in range(count) for device in self._gpu(index, driver)]

    def close(self) -> None:
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlShutdown()

    def _gpu(self, index: int, driver: str | None) -> list[Device]:
        """One GPU, followed by its MIG instances."""
        nvml, questions = self._nvml, _Questions(self._nvml)
        gpu = Device(id=f"cuda:{index}", kind="cuda", name=f"NVIDIA GPU {index}", total_bytes=0, driver=driver)
        handle = questions.ask("handle", nvml.nvmlDeviceGetHandleByIndex, index)
        if handle is None:
            gpu.note = questions.note()
            return [gpu]
        self._describe(gpu, handle, questions)
        modes = questions.ask("MIG mode", nvml.nvmlDeviceGetMigMode, handle)
        if not modes or modes[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            gpu.process_bytes = self._processes(handle, questions)
            gpu.note = questions.note()
            return [gpu]
        parts = self._mig_instances(gpu, handle)
        gpu.note = questions.note() or f"MIG is on: models run on its {len(parts)} instances"
        return [gpu, *parts]

    def _describe(self, device: Device, handle: Any, questions: _Questions) -> None:
        nvml = self._nvml
        device.name = questions.ask("name", nvml.nvmlDeviceGetName, handle) or device.name
        if (memory := questions.ask("memory", nvml.nvmlDeviceGetMemoryInfo, handle)) is not None:
            device.total_bytes, device.free_bytes = memory.total, memory.free
        if (rates := questions.ask("utilization", nvml.nvmlDeviceGetUtilizationRates, handle)) is not None:
            device.utilization = float(rates.gpu)
        sensor = nvml.NVML_TEMPERATURE_GPU
        device.temperature = _number(questions.ask("temperature", nvml.nvmlDeviceGetTemperature, handle, sensor))
        device.power = _number(questions.ask("power", nvml.nvmlDeviceGetPowerUsage, handle), 1000)
        device.power_limit = _number(questions.ask("power limit", nvml.nvmlDeviceGetEnforcedPowerLimit, handle), 1000)
        capability = questions.ask("compute capability", nvml.nvmlDeviceGetCudaComputeCapability, handle)
        device.compute_capability = "{}.{}".format(*capability) if capability else None

    def _mig_instances(self, gpu: Device, handle: Any) -> list[Device]:
        """The slots may have gaps, so each is asked for; an empty slot answers "not found"."""
        nvml = self._nvml
        slots = _Questions(nvml).ask("MIG slots", nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0
        found = []
        for slot in range(slots):
            questions = _Questions(nvml)
            part = questions.ask("handle", nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, slot)
            if part is None:
                continue
            device = Device(
                id=f"{gpu.id}/{slot}", kind="cuda", name=gpu.name, total_bytes=0, driver=gpu.driver, parent=gpu.id
            )
            self._describe(device, part, questions)
            device.compute_capability = device.compute_capability or gpu.compute_capability
            device.process_bytes = self._processes(part, questions)
            device.note = questions.note()
            found.append(device)
        return found

    def _processes(self, handle: Any, questions: _Questions) -> dict[int, int]:
        """Bytes by pid. A process that both computes and draws is in both lists with the same number."""
        nvml, found = self._nvml, dict[int, int]()
        for list_processes in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
            for process in questions.ask("processes", list_processes, handle) or []:
                found[process.pid] = max(found.get(process.pid, 0), process.usedGpuMemory or 0)
        return found


class _Questions:
    """Asks NVML about one device and remembers what failed."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._silent = (
            nvml.NVML_ERROR_NOT_SUPPORTED,
            nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            nvml.NVML_ERROR_NO_PERMISSION,
            nvml.NVML_ERROR_NOT_FOUND,
        )
        self._failed: dict[str, list[str]] = {}

    def ask(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except UnicodeDecodeError:
            self._failed.setdefault("not text", []).append(what)
        except self._nvml.NVMLError as exc:
            if exc.value not in self._silent:
                self._failed.setdefault(str(exc), []).append(what)
        return None

    def note(self) -> str | None:
        """One line: each cause with the questions that it spoiled."""
        lines = [f"{cause} ({', '.join(dict.fromkeys(what))})" for cause, what in self._failed.items()]
        return "; ".join(lines) or None


def _number(value: int | None, divisor: int = 1) -> float | None:
    return None if value is None else value / divisor
