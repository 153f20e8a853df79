"""What `xin engines install` installs: the one place where engine versions and build flags are pinned."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass, field
from typing import Literal

from xin.errors import UsageError

Accelerator = Literal["cpu", "cuda", "metal", "rocm", "vulkan"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One engine's packages.

    requirements    what pip is asked for, pinned; the first gives the engine its version
    modules         import names that show that it is installed
    cmake_args      flags of every build; empty and no `wheel_indexes` = plain wheels from the package index
    accelerators    further flags by accelerator
    tools           programs that the build needs besides a compiler; each is also a package of that name
    environment     further variables of the build
    wheel_indexes   where a prebuilt wheel may be, by accelerator
    libraries       what a build of ours must contain, by accelerator; "" = always
    minutes         CPU time of a build, for the question before it
    """

    name: str
    requirements: tuple[str, ...]
    modules: tuple[str, ...]
    cmake_args: tuple[str, ...] = ()
    accelerators: dict[Accelerator, tuple[str, ...]] = field(default_factory=dict)
    tools: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    wheel_indexes: dict[Accelerator, str] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    minutes: int = 0

    @property
    def compiled(self) -> bool:
        return bool(self.cmake_args)

    @property
    def distribution(self) -> str:
        return self.requirements[0].partition("==")[0]

    @property
    def version(self) -> str:
        return self.requirements[0].partition("==")[2]

    def flags(self, accelerator: Accelerator) -> list[str]:
        """CMake flags of this build; the user's own CMAKE_ARGS come last and win."""
        own = os.environ.get("CMAKE_ARGS", "").split()
        return [*self.cmake_args, *self.accelerators.get(accelerator, ()), *own]


_LLAMA_WHEELS = "https://abetlen.github.io/llama-cpp-python/whl"

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="llama.cpp",
            requirements=("llama-cpp-python==0.3.36",),
            modules=("llama_cpp",),
            cmake_args=("-DGGML_RPC=ON",),
            accelerators={
                "cuda": ("-DGGML_CUDA=ON",),
                "metal": ("-DGGML_METAL=ON",),
                "rocm": ("-DGGML_HIP=ON",),
                "vulkan": ("-DGGML_VULKAN=ON",),
            },
            # CUDA and ROCm wheels must fit the driver here, so those two are compiled.
            wheel_indexes={name: f"{_LLAMA_WHEELS}/{name}" for name in ("cpu", "metal", "vulkan")},
            libraries={"": "rpc", "cuda": "cuda", "metal": "metal", "rocm": "hip", "vulkan": "vulkan"},
            minutes=15,
        ),
        Recipe(
            name="chatglm.cpp",
            requirements=("chatglm-cpp==0.4.2",),
            modules=("chatglm_cpp",),
            # Its bundled sentencepiece asks for a CMake older than 3.5, which CMake 4 refuses.
            cmake_args=("-DCMAKE_POLICY_VERSION_MINIMUM=3.5",),
            accelerators={"cuda": ("-DGGML_CUDA=ON",), "metal": ("-DGGML_METAL=ON",)},
            # Without Ninja its setup.py runs make with an unbounded -j.
            tools=("ninja",),
            environment={"CMAKE_GENERATOR": "Ninja"},
            minutes=10,
        ),
        Recipe(
            name="transformers",
            requirements=(
                "transformers==5.23.0",
                "torch==2.13.0",
                "accelerate==1.15.0",
                "bitsandbytes==0.50.2",
                "safetensors==0.8.0",
                "sentencepiece==0.2.3",
                "av==18.1.0",
            ),
            modules=("transformers", "torch", "accelerate", "bitsandbytes", "safetensors", "sentencepiece", "av"),
        ),
        Recipe(name="faster-whisper", requirements=("faster-whisper==1.2.1",), modules=("faster_whisper",)),
    )
}


def recipe(name: str) -> Recipe:
    try:
        return RECIPES[name]
    except KeyError:
        known = ", ".join(RECIPES)
        raise UsageError(f"xin cannot install an engine named {name!r}", f"it can install {known}") from None


def accelerator_for(recipe: Recipe, asked: Accelerator | None) -> Accelerator:
    """What was asked for, else Metal on Apple silicon, else the CPU. Refuses what the engine has no build for."""
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    chosen: Accelerator = asked or ("metal" if apple and "metal" in recipe.accelerators else "cpu")
    if chosen != "cpu" and chosen not in recipe.accelerators:
        raise UsageError(f"{recipe.name} has no {chosen} build in xin", f"leave --{chosen} out")
    if chosen == "metal" and sys.platform != "darwin":
        raise UsageError("Metal exists on macOS only", "use --cuda, --rocm or --vulkan, or none for the CPU")
    return chosen
