"""The workbench in a terminal of one host, while others are found, paired, given work, and lost.

XIN_SCREENS=update writes what it showed to docs/images, for docs/cluster.md.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from namespaces import Host, fleet, missing, until

from xin.client import Client
from xin.protocol.node import LaunchRequest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from terminal_svg import Shot, still
from tmux import Tmux

SIZE = (120, 30)
IMAGES = Path(__file__).parents[2] / "docs" / "images"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    if lacks := missing():
        pytest.skip(f"hosts made of network namespaces need {lacks}")
    if shutil.which("tmux") is None:
        pytest.skip("a terminal needs tmux")


def keep(window: Tmux, name: str) -> None:
    if os.environ.get("XIN_SCREENS") == "update":
        svg = still(Shot.of_ansi(window.ansi(), 0.0), SIZE, "xin tui")
        (IMAGES / f"{name}.svg").write_text(svg, encoding="utf-8")


def tui(host: Host) -> Tmux:
    return Tmux(host.command(sys.executable, "-m", "xin", "tui"), host.environment(), SIZE)


def models(host: Host) -> set[str]:
    return {model.id for model in host.ask(Client.models)}


def test_a_fleet_is_seen_paired_used_and_lost_from_one_terminal() -> None:
    with fleet("ant", "bee", "cat") as (ant, bee, cat), tui(ant) as window:
        window.wait("ant", "bee", "cat", "not paired")
        keep(window, "fleet-found")

        digits = bee.ask(lambda client: client.open_pairing()).secret
        select(window, "bee")
        window.press("P")
        window.wait("digits")
        window.type(digits)
        window.press("Enter")
        until(lambda: ant.status("bee") == "alive")

        token = ant.ask(lambda client: client.open_pairing(token=True)).secret
        cat.ask(lambda client: client.join_cluster(token))
        until(lambda: ant.sees(2))
        window.wait("Nodes 3")

        order = LaunchRequest(model_name="echo", model_uid="parrot", replica=3)
        ant.ask(lambda client: client.launch(order))
        until(lambda: "parrot" in models(cat))
        window.wait("parrot", "ready")
        keep(window, "fleet-paired")

        bee.signal(signal.SIGKILL)
        until(lambda: ant.status("bee") == "gone")
        screen = window.wait("gone")
        assert "bee" in screen and "parrot" in screen
        keep(window, "fleet-lost")


def select(window: Tmux, name: str) -> None:
    """Put the cursor on the row of a node: into the list of nodes, and down."""
    for _ in range(6):
        window.press("Tab")
        for _ in range(3):
            window.press("Down")
            time.sleep(0.3)
            if any(line.startswith("│▌") and name in line[:30] for line in window.text().splitlines()):
                return
    raise AssertionError(window.text())
