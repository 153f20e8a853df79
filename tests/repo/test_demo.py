"""`make demo` on a terminal: the workbench, two quantizations made by llama.cpp side by side, a question typed in."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from node_process import started

from xin.tui.screens.chat import ChatScreen
from xin.tui.widgets.jobs_strip import JobsStrip

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
from demo_workbench import DemoWorkbench  # noqa: E402
from tmux import Tmux  # noqa: E402


class QuickDemo(DemoWorkbench):
    """What is installed here can quantize nothing: models that need no weights take their places."""

    said = ""

    async def _run(self, client: Any, quantization: str) -> str:
        return str(await client.launch_model("echo", model_uid=quantization))

    def say(self, text: str, **more: Any) -> None:
        self.said += text

    def _settle(self) -> None:
        """The tests' process goes on."""


async def until(true: Callable[[], object], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - another process does the work
            await asyncio.sleep(0.02)


async def test_the_engines_build_is_the_first_job_and_leads_to_two_models_and_a_question(environment: Any) -> None:
    environment.add_source()
    command = [environment.python, "-m", "xin", "node", "--port", "0", "--private"]
    with started(command, environment.variables) as (endpoint, _):
        app = QuickDemo(endpoint, model="smollm2", question="And then?")
        async with app.run_test(size=(120, 36)):
            await until(lambda: app.screen.query(JobsStrip) and "llama.cpp" in strip_of(app))
            assert not app.store.targets() and "compiled first" in app.said
            assert [job.kind for _, job in app.store.jobs()] == ["install"]
            await until(lambda: isinstance(app.screen, ChatScreen) and len(app.screen.panes) == 2)
            await until(lambda: app.screen.prompt.text == "And then?")  # type: ignore[attr-defined]
            jobs = sorted((job for _, job in app.store.jobs()), key=lambda job: job.created_at)
            assert (jobs[0].kind, jobs[0].state) == ("install", "done")
            assert [target.uid for target in app.store.targets()] == ["Q8_0", "Q2_K"]
            assert "stops here" not in app.said and app.return_code is None


async def test_a_build_that_fails_ends_the_demo_with_its_cause(environment: Any) -> None:
    environment.add_source(fail="the gremlins are back")
    command = [environment.python, "-m", "xin", "node", "--port", "0", "--private"]
    with started(command, environment.variables) as (endpoint, _):
        app = QuickDemo(endpoint, model="smollm2", question="And then?")
        async with app.run_test(size=(120, 36)):
            await until(lambda: "stops here" in app.said)
            assert "install" in app.said and "gremlins" in app.said
            assert app.current_mode == "bench" and not app.store.targets()


def strip_of(app: DemoWorkbench) -> str:
    lines = app.screen._compositor.render_strips()
    region = app.screen.query_one(JobsStrip).region
    return "\n".join(line.text for line in lines[region.y : region.bottom])


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
