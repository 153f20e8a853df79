"""What a compile needs on this machine, and how to get what is missing."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from xin.errors import EngineMissing
from xin.installer.recipes import Accelerator

_COMPILER = {
    "darwin": "xcode-select --install",
    "apt": "sudo apt install build-essential",
    "dnf": "sudo dnf install gcc-c++ make",
}
_TOOLS: dict[Accelerator, dict[str, dict[str, str]]] = {
    "cuda": {
        "nvcc": {
            "apt": "sudo apt install nvidia-cuda-toolkit, or NVIDIA's own packages, with nvcc on PATH",
            "dnf": "install the CUDA toolkit from NVIDIA and put nvcc on PATH",
            "darwin": "CUDA does not exist on macOS; use --metal",
        }
    },
    "rocm": {
        "hipcc": {
            "apt": "install ROCm from AMD (package rocm-hip-sdk) and put /opt/rocm/bin on PATH",
            "dnf": "sudo dnf install rocm-hip-devel",
            "darwin": "ROCm does not exist on macOS; use --metal",
        }
    },
    "vulkan": {
        "glslc": {
            "apt": "sudo apt install glslc libvulkan-dev",
            "dnf": "sudo dnf install glslc vulkan-loader-devel",
            "darwin": "brew install vulkan-headers vulkan-loader molten-vk shaderc",
        }
    },
}


def check(accelerator: Accelerator) -> None:
    """Raise EngineMissing naming the first missing program and the line that installs it."""
    for variable, names in (("CC", ("cc", "gcc", "clang")), ("CXX", ("c++", "g++", "clang++"))):
        if not _compiler(variable, names):
            language = "C" if variable == "CC" else "C++"
            raise EngineMissing(
                f"no {language} compiler found (looked for {', '.join(names)} and ${variable})", _line(_COMPILER)
            )
    for program, lines in _TOOLS.get(accelerator, {}).items():
        if shutil.which(program, path=search_path()) is None:
            raise EngineMissing(f"{program} not found: a {accelerator} build needs it", _line(lines))


def search_path() -> str:
    """PATH, then the places where CUDA, ROCm and this environment's own programs are usually put."""
    usual = [str(Path(sys.executable).parent), "/usr/local/cuda/bin", "/opt/rocm/bin"]
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *usual])


def nvidia_unused(accelerator: Accelerator) -> bool:
    """Is there an NVIDIA driver that this build will not use?"""
    return accelerator == "cpu" and shutil.which("nvidia-smi") is not None


def _compiler(variable: str, names: tuple[str, ...]) -> bool:
    own = os.environ.get(variable, "").split()
    return any(shutil.which(name) for name in ([own[0]] if own else names))


def _line(lines: dict[str, str]) -> str:
    if sys.platform == "darwin":
        return lines["darwin"]
    if shutil.which("dnf"):
        return lines["dnf"]
    return lines["apt"]
