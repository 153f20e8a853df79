"""`xin rm` on a terminal: it shows, asks, and takes a no."""

from __future__ import annotations

from pathlib import Path

from node_process import NodeProcess
from terminal import Terminal


def test_removing_asks_first(node: NodeProcess) -> None:
    file = Path(node.environ["XIN_HOME"]) / "data/models/spare-1B.Q8_0.gguf"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"GGUF\x03\0\0\0")
    for answer, stays in (("n\n", True), ("y\n", False)):
        with Terminal("rm", "spare-1B.Q8_0", environ=node.environ) as terminal:
            terminal.read_until("goes")
            terminal.read_until("Remove 1 files")
            terminal.type(answer)
            assert terminal.finish() == 0
        assert file.exists() is stays
