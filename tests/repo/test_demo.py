"""`make demo` on a terminal: the workbench, two quantizations made by llama.cpp side by side, a question typed in."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
from tmux import Tmux  # noqa: E402


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux")
def test_the_demo_ends_with_two_models_and_a_question(smollm2: Path, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "XIN_HOME"}
    environ["XDG_CACHE_HOME"] = str(tmp_path)
    with Tmux([sys.executable, str(SCRIPTS / "demo.py")], environ, (120, 36)) as window:
        window.wait("Bench", "live", seconds=30)
        window.wait("ALL 2 panes", "capital of France", "smollm2-Q8_0", "smollm2-Q2_K", seconds=100)
        window.press("Enter")
        window.wait("Paris", seconds=60)
        window.press("C-q")
        window.wait("Leave the demo?")
        window.press("Enter")
        deadline = time.monotonic() + 30
        while window.alive():
            assert time.monotonic() < deadline, window.text()
            time.sleep(0.1)
