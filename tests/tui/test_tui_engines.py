"""In a real terminal: one model on two engines side by side, launched, watched and logged as any other."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_node import LiveNode

from xin.client import Client

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from tmux import Tmux

SIZE = (160, 45)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux here"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, smollm2_torch: Path) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("engines") / "node", name="hera") as node:
        node.launch("smollm2", model_uid="in-ggml", context_length=512)
        node.launch(str(smollm2_torch), model_uid="in-torch", context_length=512)
        yield node


def test_two_engines_answer_side_by_side(node: LiveNode, tmp_path: Path):
    environ = {**node.environ, "XIN_HOME": str(tmp_path)}
    with Tmux([sys.executable, "-m", "xin", "tui", "-e", node.url], environ, SIZE) as window:
        window.wait("in-ggml", "in-torch", "RAM", "llama.cpp")
        window.press("Down")
        window.wait("transformers")
        window.press("Up")
        window.press("Space", "Space", "b")
        window.wait("in-ggml", "in-torch", "ALL")
        window.type("Say hello in one sentence.")
        window.press("Enter")
        chat = window.wait("✓ done", seconds=90)
        while chat.count("✓ done") < 2:
            chat = window.wait("✓ done", seconds=90)
        window.press("4")
        window.wait("in-ggml", "in-torch")
    with Client(node.url) as client:
        workers = {one.model_uid: one.worker for one in client.instances()}
        assert all(worker is not None and worker.rss_bytes > 100 << 20 for worker in workers.values())
        assert {one.model_engine for one in client.instances()} == {"llama.cpp", "transformers"}
        assert all(client.logs(uid) for uid in workers)
